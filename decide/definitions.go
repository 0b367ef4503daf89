package decide

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/everflag/everflag/decide/eval"
)

// maxFeeds bounds the memory of rendered definitions, in bytes of one generation.
const maxFeeds = 64 << 20

// DefinitionKeys are secret keys by API token, as SHA-256 digests, for databases whose teams have none of their own.
type DefinitionKeys map[string][][]byte

// ReadDefinitionKeys reads a file with one token and the hexadecimal SHA-256 of one of its keys per line. A token may have several lines; blank lines and
// lines that begin with # do not count.
func ReadDefinitionKeys(path string) (DefinitionKeys, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading definition keys: %w", err)
	}
	defer file.Close()
	keys := DefinitionKeys{}
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		var digest []byte
		if len(fields) == 2 {
			digest, _ = hex.DecodeString(fields[1])
		}
		if len(digest) != sha256.Size { // the line itself may hold a key in clear: it is not quoted
			return nil, fmt.Errorf("reading definition keys: %s line %d: want a token and 64 hexadecimal digits", path, n)
		}
		keys[fields[0]] = append(keys[fields[0]], digest)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading definition keys: %w", err)
	}
	return keys, nil
}

// definitions answers the feed that SDKs evaluate locally from.
func (h *Handler) definitions(x *exchange) *apiError {
	if !x.allow(http.MethodGet) {
		return errMethod
	}
	token := x.query.token
	if token == "" {
		return currentErrors.noToken
	}
	key := bearer(x.r.Header)
	if key == "" && h.cfg.Rules == eval.Rules2023 {
		key = x.query.personalKey
	}
	if key == "" {
		return errNoCredentials
	}
	program, e := h.program(x, token)
	if e != nil {
		return e
	}
	v, e := h.view(x, program, token)
	if e != nil {
		return e
	}
	if !isKnownKey(key, v.digests) && !isKnownKey(key, h.cfg.DefinitionKeys[token]) {
		if strings.HasPrefix(key, "phx_") {
			return errPersonalKey
		}
		return errBadSecret
	}
	return h.sendFeed(x, token, program.Version())
}

// sendFeed answers with the feed, or with 304 if the client has it. Requests that say what they have are counted apart: they cost next to nothing.
func (h *Handler) sendFeed(x *exchange, token, version string) *apiError {
	known := etagOf(x.r.Header)
	if known != "" {
		if e := h.limits.check(x, h.limits.revalidations, token); e != nil {
			return e
		}
	}
	f, e := h.feed(x, token, version)
	if e != nil {
		return e
	}
	x.setVersion(f.version) // it may have changed since the keys were checked
	x.header["Cache-Control"] = []string{"private, must-revalidate"}
	x.header["Etag"] = []string{`W/"` + f.etag + `"`}
	x.header["Vary"] = []string{"Origin, Accept-Encoding, Authorization"}
	if known == f.etag {
		x.status = http.StatusNotModified
		return nil
	}
	if e := h.limits.check(x, h.limits.definitions, token); e != nil {
		return e
	}
	x.json()
	body := f.raw
	if containsGzip(x.r.Header["Accept-Encoding"]) {
		x.header["Content-Encoding"] = []string{"gzip"}
		body = f.gzipped
	}
	x.shared = body
	return nil
}

// feed finds the rendered feed of the version, or renders it; requests that come at the same time share one rendering.
func (h *Handler) feed(x *exchange, token, version string) (*feed, *apiError) {
	key := token
	if x.query.sendCohorts {
		key += " with cohorts"
	}
	if f, ok := h.feeds.get(key); ok && f.version == version {
		return f, nil
	}
	made, err, _ := h.rendering.Do(version+" "+key, func() (any, error) {
		team, lookup := h.source.Records(token)
		switch lookup {
		case Found:
		case Absent: // since a moment ago
			return nil, currentErrors.unknownToken
		default:
			return nil, errUnavailable
		}
		f, err := renderFeed(team, x.query.sendCohorts, h.cfg.Rules)
		if err != nil {
			return nil, err
		}
		h.feeds.set(key, f, len(f.raw)+len(f.gzipped))
		return f, nil
	})
	if err != nil {
		e, ok := err.(*apiError) //nolint:errorlint // the function above returns it bare
		if !ok {
			e = errInternal
		}
		return nil, e
	}
	return made.(*feed), nil
}

// isKnownKey compares with every digest, in time that does not depend on the key.
func isKnownKey(key string, digests [][]byte) bool {
	digest := sha256.Sum256([]byte(key))
	known := 0
	for _, d := range digests {
		known |= subtle.ConstantTimeCompare(digest[:], d)
	}
	return known == 1
}

func bearer(h http.Header) string {
	scheme, key, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

// etagOf is the tag that the client has: weak or strong, with quotes or without.
func etagOf(h http.Header) string {
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(h.Get("If-None-Match")), "W/"), `"`)
}
