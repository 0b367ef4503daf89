package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/klauspost/compress/s2"
	"github.com/valyala/fastjson"

	"github.com/everflag/everflag/internal/flagcache"
)

// codec compresses records with a dictionary: the member names of the records, which are most of a small team's bytes, stand there once. It is immutable
// and safe for concurrent use; every team keeps the codec that packed it.
type codec struct {
	dictionary *s2.Dict
	sampled    int // number of teams known when the sample was taken
}

// The dictionary is the end of a sample of teams of this size.
const dictionaryBytes = 32 << 10

// newCodec makes a codec from a sample of packed fields.
func newCodec(sample [][]byte, teams int) *codec {
	var text []byte
	for _, fields := range sample {
		// The largest teams would fill the dictionary with one flag's filters.
		text = append(text, fields[:min(len(fields), dictionaryBytes/4)]...)
		if len(text) >= dictionaryBytes {
			break
		}
	}
	for len(text) < s2.MinDictSize {
		text = append(text, ' ')
	}
	return &codec{dictionary: s2.MakeDict(text[max(0, len(text)-dictionaryBytes):], nil), sampled: teams}
}

// version is a team's version, as numbers because hundreds of thousands of them stay in memory.
type version struct {
	epoch int64
	lsn   uint64
}

func parseVersion(text string) (version, error) {
	epoch, lsn, err := flagcache.ParseVersion(text)
	return version{epoch, lsn}, err
}

func (v version) String() string {
	return flagcache.Version(v.epoch, v.lsn)
}

// newer is for what is served from a cache that is not known to be whole (see doc.go), and for the version that stands for several teams. Everything else
// compares versions for equality.
func (v version) newer(than version) bool {
	return v.epoch > than.epoch || v.epoch == than.epoch && v.lsn > than.lsn
}

// team is one team as it is served. All but the program is immutable: a change makes a new team.
type team struct {
	id      int64
	version version
	token   string // empty if the team has no row of its own
	project int64  // 0 = none
	flags   int32
	size    int32  // of the fields before compression
	packed  string // the fields, compressed by codec
	codec   *codec

	slot slot // of its program
}

var (
	errNoVersion = errors.New("the record has no version")
	errBadTeam   = errors.New("the team's own record is not readable")
)

// packer turns the hashes of teams into teams. It belongs to one goroutine.
type packer struct {
	parser         fastjson.Parser
	fields, packed []byte
}

// describe fills in all of the team but its packed fields, which it leaves in p.fields.
func (p *packer) describe(id int64, hash map[string]string) (*team, error) {
	t := &team{id: id}
	text, ok := hash[flagcache.VersionField]
	if !ok {
		return nil, errNoVersion
	}
	var err error
	if t.version, err = parseVersion(text); err != nil {
		return nil, err
	}
	p.fields = p.fields[:0]
	for _, field := range slices.Sorted(maps.Keys(hash)) {
		if entity, _, _ := flagcache.ParseField(field); entity == flagcache.EntityFlag {
			t.flags++
		}
		p.fields = appendText(appendText(p.fields, field), hash[field])
	}
	t.size = int32(len(p.fields))
	record, ok := hash[flagcache.EntityTeam]
	if !ok {
		return t, nil
	}
	row, err := p.parser.Parse(record)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadTeam, err)
	}
	t.token = string(row.GetStringBytes("api_token"))
	t.project = row.GetInt64("project_id")
	return t, nil
}

// pack returns the team of a hash, compressed with the codec.
func (p *packer) pack(id int64, hash map[string]string, c *codec) (*team, error) {
	t, err := p.describe(id, hash)
	if err != nil {
		return nil, fmt.Errorf("packing team %d: %w", id, err)
	}
	p.packed = p.packed[:cap(p.packed)]
	p.packed = c.dictionary.Encode(p.packed, p.fields)
	t.packed, t.codec = string(p.packed), c
	return t, nil
}

// records returns the team as the cache holds it.
func (t *team) records() (*flagcache.Team, error) {
	fields, err := t.codec.dictionary.Decode(make([]byte, 0, t.size), []byte(t.packed))
	if err != nil {
		return nil, fmt.Errorf("unpacking team %d: %w", t.id, err)
	}
	var texts []string
	for len(fields) > 0 {
		text, rest, ok := cutText(fields)
		if !ok {
			return nil, fmt.Errorf("unpacking team %d: a field ends early", t.id)
		}
		texts, fields = append(texts, text), rest
	}
	team, _ := flagcache.DecodeTeam(t.id, texts)
	return team, nil
}

func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

func cutText(src []byte) (text string, rest []byte, ok bool) {
	length, n := binary.Uvarint(src)
	if n <= 0 || length > uint64(len(src)-n) {
		return "", nil, false
	}
	src = src[n:]
	return string(src[:length]), src[length:], true
}

// codecs hands out the codec for new teams. The first is made from the first teams read; when the cache has grown far beyond what that sample stood
// for, a new one takes its place.
type codecs struct {
	current atomic.Pointer[codec]
}

// minSample is how many teams it takes to replace a codec; the first takes what there is.
const minSample = 64

// forTeams returns the codec for a cache of that many teams, sampling the hashes if it takes a new one.
func (c *codecs) forTeams(teams int, hashes []map[string]string) *codec {
	now := c.current.Load()
	if now != nil && (teams < 16*(now.sampled+1) || len(hashes) < minSample) {
		return now
	}
	var p packer
	var sample [][]byte
	for _, hash := range hashes {
		if _, err := p.describe(0, hash); err == nil {
			sample = append(sample, slices.Clone(p.fields))
		}
	}
	next := newCodec(sample, teams)
	c.current.Store(next)
	return next
}
