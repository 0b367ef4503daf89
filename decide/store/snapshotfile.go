package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/everflag/everflag/internal/flagcache"
)

// The file is
//
//	magic, format (4 bytes, big endian), a zstd stream, SHA-256 of all before
//
// and the stream holds texts and numbers as package binary writes them: the header as JSON, the dictionaries, then the teams. A new format needs a new
// number; the header may grow.
const (
	fileMagic  = "everflag snapshot\n"
	fileFormat = 1
)

// header is the first text of the stream.
type header struct {
	Schema       int    `json:"schema"` // of the records
	Prefix       string `json:"prefix"` // of the keys that they were read from
	Owner        string `json:"owner"`  // empty if the view was not whole: then all versions are compared, whatever the cache says
	Epoch        int64  `json:"epoch"`
	Seq          int64  `json:"seq"`
	Checkpoint   uint64 `json:"checkpoint"`
	Position     string `json:"position"`
	Beat         int64  `json:"beat"` // ms since 1970
	Commit       int64  `json:"commit_time"`
	Dictionaries int    `json:"dictionaries"`
	Teams        int    `json:"teams"`
}

// snapshot is what the file holds.
type snapshot struct {
	header header
	view   *view
}

var (
	errForeign = errors.New("this is no snapshot file")
	errDamaged = errors.New("the snapshot file is damaged")
)

// readSnapshot reads a file. The checksum is verified before anything else is looked at.
func readSnapshot(path string, byProject bool) (*snapshot, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the snapshot file: %w", err)
	}
	defer file.Close()
	body, err := verify(file)
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(body)
	if err != nil {
		return nil, fmt.Errorf("reading the snapshot file: %w", err)
	}
	defer decoder.Close()
	snap, err := readStream(decoder, byProject)
	if err != nil {
		return nil, fmt.Errorf("reading the snapshot file: %w", err)
	}
	return snap, nil
}

// verify returns the zstd stream of the file.
func verify(file *os.File) (io.Reader, error) {
	start := make([]byte, len(fileMagic)+4)
	if _, err := io.ReadFull(file, start); err != nil || string(start[:len(fileMagic)]) != fileMagic {
		return nil, errForeign
	}
	if format := binary.BigEndian.Uint32(start[len(fileMagic):]); format != fileFormat {
		return nil, fmt.Errorf("the snapshot file has format %d, this program reads %d", format, fileFormat)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the snapshot file: %w", err)
	}
	length := info.Size() - int64(len(start)) - sha256.Size
	if length < 0 {
		return nil, errDamaged
	}
	sum := sha256.New()
	sum.Write(start)
	if _, err := io.CopyN(sum, file, length); err != nil {
		return nil, fmt.Errorf("reading the snapshot file: %w", err)
	}
	var stored [sha256.Size]byte
	if _, err := io.ReadFull(file, stored[:]); err != nil || !bytes.Equal(stored[:], sum.Sum(nil)) {
		return nil, errDamaged
	}
	return io.NewSectionReader(file, int64(len(start)), length), nil
}

func readStream(stream io.Reader, byProject bool) (*snapshot, error) {
	r := &textReader{r: bufio.NewReaderSize(stream, 256<<10)}
	return r.snapshot(byProject)
}

// maxText is the longest text that is believed: Redis takes no value of more than 512 MB, and a team is packed.
const maxText = 256 << 20

// textReader reads texts and numbers; after an error it returns zero values.
type textReader struct {
	r   *bufio.Reader
	err error
}

func (r *textReader) number() int64 {
	if r.err != nil {
		return 0
	}
	var n int64
	n, r.err = binary.ReadVarint(r.r)
	return n
}

func (r *textReader) text() []byte {
	length := r.number()
	if r.err != nil {
		return nil
	}
	if length < 0 || length > maxText {
		r.err = errDamaged
		return nil
	}
	text := make([]byte, length)
	_, r.err = io.ReadFull(r.r, text)
	return text
}

func (r *textReader) snapshot(byProject bool) (*snapshot, error) {
	snap := &snapshot{}
	if text := r.text(); r.err == nil {
		r.err = json.Unmarshal(text, &snap.header)
	}
	if r.err != nil {
		return nil, r.err
	}
	if snap.header.Schema > flagcache.SchemaVersion {
		return nil, fmt.Errorf("its records have schema version %d, newer than %d", snap.header.Schema, flagcache.SchemaVersion)
	}
	var known []*codec
	for range snap.header.Dictionaries {
		if r.err != nil {
			return nil, r.err
		}
		c := &codec{sampled: int(r.number()), dictionary: s2.NewDict(r.text())}
		if r.err == nil && c.dictionary == nil {
			r.err = errDamaged
		}
		known = append(known, c)
	}
	d := newDraft(&view{})
	for range snap.header.Teams {
		t := r.team(known)
		if r.err != nil {
			return nil, r.err
		}
		d.teams[t.id] = t
	}
	snap.view = d.apply(byProject)
	return snap, nil
}

func (r *textReader) team(known []*codec) *team {
	t := &team{id: r.number(), version: version{epoch: r.number(), lsn: uint64(r.number())}, project: r.number(), flags: int32(r.number()), size: int32(r.number())}
	c := r.number()
	t.token, t.packed = string(r.text()), string(r.text())
	if r.err == nil && (c < 0 || c >= int64(len(known))) {
		r.err = errDamaged
	}
	if r.err != nil {
		return nil
	}
	t.codec = known[c]
	return t
}

// temporaryPart is between the path of the file and what makes the name of a temporary one its own.
const temporaryPart = ".tmp-"

// writeSnapshot replaces the file. Whoever reads the path sees the old file or the new one, also after a power cut, and if two processes write it.
func writeSnapshot(path string, snap *snapshot) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+temporaryPart+"*") // for its owner alone: it holds tokens
	if err != nil {
		return fmt.Errorf("writing the snapshot file: %w", err)
	}
	temporary := file.Name()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary))
		}
	}()
	err = encodeSnapshot(file, snap)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing the snapshot file: %w", err)
	}
	// A crash up to here leaves the old file, and a temporary one that a later start removes.
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("putting the snapshot file in place: %w", err)
	}
	return syncDirectory(path)
}

func encodeSnapshot(w io.Writer, snap *snapshot) error {
	buffered := bufio.NewWriterSize(w, 256<<10)
	sum := sha256.New()
	out := io.MultiWriter(buffered, sum)
	if _, err := out.Write(binary.BigEndian.AppendUint32([]byte(fileMagic), fileFormat)); err != nil {
		return err
	}
	encoder, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	if err := errors.Join(encodeTeams(encoder, snap), encoder.Close()); err != nil {
		return err
	}
	if _, err := buffered.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return buffered.Flush()
}

func encodeTeams(w io.Writer, snap *snapshot) error {
	numbers := make(map[*codec]int64)
	var known []*codec
	for _, t := range snap.view.teams.all() {
		if _, ok := numbers[t.codec]; !ok {
			numbers[t.codec] = int64(len(known))
			known = append(known, t.codec)
		}
	}
	head := snap.header
	head.Schema, head.Teams, head.Dictionaries = flagcache.SchemaVersion, snap.view.teams.size, len(known)
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	out := appendSized(nil, string(text))
	for _, c := range known {
		out = binary.AppendVarint(out, int64(c.sampled))
		out = appendSized(out, string(c.dictionary.Bytes()))
	}
	for _, t := range snap.view.teams.all() {
		for _, n := range [...]int64{t.id, t.version.epoch, int64(t.version.lsn), t.project, int64(t.flags), int64(t.size), numbers[t.codec]} {
			out = binary.AppendVarint(out, n)
		}
		out = appendSized(appendSized(out, t.token), t.packed)
		if len(out) >= 64<<10 {
			if _, err := w.Write(out); err != nil {
				return err
			}
			out = out[:0]
			// Where there is one processor, requests must not wait for a time slice of this.
			runtime.Gosched()
		}
	}
	_, err = w.Write(out)
	return err
}

func appendSized(dst []byte, text string) []byte {
	return append(binary.AppendVarint(dst, int64(len(text))), text...)
}
