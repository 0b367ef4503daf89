package decide

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

const (
	maxViews     = 50_000  // teams whose views are kept; one is about 200 bytes
	maxViewTexts = 4 << 20 // bytes of what views share: most teams have one of a few configurations
)

// view is what answers say about a team beside its flags, prepared once per version.
type view struct {
	version                 string
	minimalFlagCalledEvents bool
	digests                 [][]byte // SHA-256 of the secret keys
	config                  []byte   // the configuration's members except sessionRecording
	recording               []byte   // the value of sessionRecording
	recordingDomains        []string // pages that recording is limited to; empty = all
}

// view finds the view of the program's team.
func (h *Handler) view(x *exchange, program *eval.Program, token string) (*view, *apiError) {
	if v, ok := h.views.get(token); ok && v.version == program.Version() {
		return v, nil
	}
	team, lookup := h.source.Records(token)
	switch lookup {
	case Found:
		v := newView(team)
		v.config, v.recording = h.shared(v.config), h.shared(v.recording)
		h.views.set(token, v, 1)
		return v, nil
	case Absent: // since a moment ago
		return nil, x.errors().unknownToken
	default:
		return nil, errUnavailable
	}
}

// shared is the one copy of the text that views have.
func (h *Handler) shared(text []byte) []byte {
	if have, ok := h.texts.get(string(text)); ok {
		return have
	}
	h.texts.set(string(text), text, len(text))
	return text
}

// newView prepares the view. What cannot be read of the records is left out.
func newView(team *flagcache.Team) *view {
	columns := readColumns(team.Team)
	v := &view{version: team.Version, minimalFlagCalledEvents: readColumns(team.Config).truth("minimal_flag_called_events")}
	for _, name := range []string{"secret_api_token", "secret_api_token_backup"} {
		if digest, err := hex.DecodeString(columns.text(name)); err == nil && len(digest) > 0 {
			v.digests = append(v.digests, digest)
		}
	}
	v.config = appendTeamConfig(nil, columns)
	v.recording, v.recordingDomains = sessionRecording(columns)
	return v
}

// columns are a record's members. In nil ones every column is absent.
type columns map[string]json.RawMessage

// readColumns returns nil for what is no JSON object, as the cache holds none.
func readColumns(record []byte) columns {
	var c columns
	if err := json.Unmarshal(record, &c); err != nil {
		return nil
	}
	return c
}

// truth reports whether a boolean column is there and true.
func (c columns) truth(name string) bool {
	return string(c[name]) == "true"
}

// text is the text of a string, the literal of a number, and empty for anything else.
func (c columns) text(name string) string {
	raw := c[name]
	var text string
	if len(raw) > 0 && (raw[0] == '-' || raw[0]-'0' <= 9) {
		return string(raw)
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return ""
	}
	return text
}

// number is an integer column, 0 if it is not one.
func (c columns) number(name string) int64 {
	n, err := strconv.ParseInt(c.text(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// raw is the column's JSON, null if the column is absent.
func (c columns) raw(name string) json.RawMessage {
	if raw := c[name]; len(raw) > 0 {
		return raw
	}
	return json.RawMessage("null")
}

// list reads an array column, which the record holds as Postgres prints it.
func (c columns) list(name string) ([]*string, error) {
	text := c.text(name)
	if text == "" {
		return nil, nil
	}
	elements, err := parseArray(text)
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", name, err)
	}
	return elements, nil
}
