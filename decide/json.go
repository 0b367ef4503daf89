package decide

import (
	"errors"
	"strings"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

const (
	maxJSONDepth  = 128    // as serde_json
	maxJSONValues = 20_000 // in one body: members and elements together
)

// Why a body is not JSON that we read. None of them repeats what the client sent.
var (
	errJSONSyntax = errors.New("invalid JSON")
	errJSONDepth  = errors.New("JSON nested too deeply")
	errJSONValues = errors.New("too many JSON values")
)

// scanner reads JSON in one pass. Strings that need no unescaping are slices of the text, everything else costs an allocation. Beyond JSON it takes NaN,
// Infinity and -Infinity for null, as PostHog does: mobile SDKs send them.
type scanner struct {
	text   string
	pos    int
	values int
	depth  int
	odd    bool // met a number that is not finite
}

// end reports whether only blanks follow.
func (s *scanner) end() bool {
	s.blanks()
	return s.pos == len(s.text)
}

func (s *scanner) blanks() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek is the next byte that is not blank, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.text) && s.text[s.pos] > ' ' {
		return s.text[s.pos]
	}
	s.blanks()
	if s.pos == len(s.text) {
		return 0
	}
	return s.text[s.pos]
}

// take consumes the next byte if it is c.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// enter opens an object or an array.
func (s *scanner) enter(open byte) error {
	if !s.take(open) {
		return errJSONSyntax
	}
	if s.depth++; s.depth > maxJSONDepth {
		return errJSONDepth
	}
	return nil
}

// more advances to the next member or element and reports whether there is one; first is set before the first.
func (s *scanner) more(closing byte, first bool) (bool, error) {
	if s.take(closing) {
		s.depth--
		return false, nil
	}
	if !first && !s.take(',') {
		return false, errJSONSyntax
	}
	if s.values++; s.values > maxJSONValues {
		return false, errJSONValues
	}
	return true, nil
}

// object calls member with each key; member must consume the value.
func (s *scanner) object(member func(key string) error) error {
	if err := s.enter('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.more('}', first)
		if !more {
			return err
		}
		key, err := s.key()
		if err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
	}
}

// array calls element for each element; element must consume it.
func (s *scanner) array(element func() error) error {
	if err := s.enter('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.more(']', first)
		if !more {
			return err
		}
		if err := element(); err != nil {
			return err
		}
	}
}

// key is the key of a member, and its colon.
func (s *scanner) key() (string, error) {
	key, err := s.string()
	if err == nil && !s.take(':') {
		err = errJSONSyntax
	}
	return key, err
}

// value is the next value, whatever it is.
func (s *scanner) value() (eval.Value, error) {
	switch c := s.peek(); c {
	case '"':
		text, err := s.string()
		return eval.Value{Kind: eval.String, Text: text}, err
	case '{', '[':
		return s.composite(c)
	case 't':
		return eval.Value{Kind: eval.True}, s.literal("true")
	case 'f':
		return eval.Value{Kind: eval.False}, s.literal("false")
	case 'n':
		return eval.Value{}, s.literal("null")
	case 'N':
		s.odd = true
		return eval.Value{}, s.literal("NaN")
	case 'I':
		s.odd = true
		return eval.Value{}, s.literal("Infinity")
	default:
		return s.number()
	}
}

func (s *scanner) literal(word string) error {
	if !strings.HasPrefix(s.text[s.pos:], word) {
		return errJSONSyntax
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) number() (eval.Value, error) {
	start := s.pos
	if s.pos < len(s.text) && s.text[s.pos] == '-' {
		s.pos++
		if strings.HasPrefix(s.text[s.pos:], "Infinity") {
			s.odd = true
			return eval.Value{}, s.literal("Infinity")
		}
	}
	whole := s.digits()
	ok := whole == 1 || whole > 1 && s.text[s.pos-whole] != '0'
	if s.pos < len(s.text) && s.text[s.pos] == '.' {
		s.pos++
		ok = ok && s.digits() > 0
	}
	if s.pos < len(s.text) && (s.text[s.pos] == 'e' || s.text[s.pos] == 'E') {
		s.pos++
		if s.pos < len(s.text) && (s.text[s.pos] == '+' || s.text[s.pos] == '-') {
			s.pos++
		}
		ok = ok && s.digits() > 0
	}
	if !ok {
		return eval.Value{}, errJSONSyntax
	}
	return eval.Value{Kind: eval.Number, Text: s.text[start:s.pos]}, nil
}

func (s *scanner) digits() int {
	start := s.pos
	for s.pos < len(s.text) && s.text[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos - start
}

// composite is an array or object as compact JSON. Most SDKs send it so; only what is not compact is written anew.
func (s *scanner) composite(open byte) (eval.Value, error) {
	kind := eval.Array
	if open == '{' {
		kind = eval.Object
	}
	start, values := s.pos, s.values
	s.odd = false
	if err := s.skip(); err != nil {
		return eval.Value{}, err
	}
	text := s.text[start:s.pos]
	if !s.odd && isCompact(text) {
		return eval.Value{Kind: kind, Text: text}, nil
	}
	again := scanner{text: s.text, pos: start, values: values, depth: s.depth}
	written, err := again.appendCompact(make([]byte, 0, len(text)))
	return eval.Value{Kind: kind, Text: string(written)}, err
}

// skip passes over a value.
func (s *scanner) skip() error {
	switch s.peek() {
	case '{':
		return s.object(func(string) error { return s.skip() })
	case '[':
		return s.array(s.skip)
	}
	_, err := s.value()
	return err
}

// isCompact reports whether there are neither blanks nor escapes. Blanks inside strings count, too: writing such a value anew is a cost, not an error.
func isCompact(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] == '\\' {
			return false
		}
	}
	return true
}

// appendCompact appends the value without blanks, with the fewest escapes, and with null for what is not finite.
func (s *scanner) appendCompact(dst []byte) ([]byte, error) {
	separator := func(first byte) {
		if dst[len(dst)-1] != first {
			dst = append(dst, ',')
		}
	}
	switch s.peek() {
	case '{':
		dst = append(dst, '{')
		err := s.object(func(key string) (err error) {
			separator('{')
			dst = append(flagcache.AppendString(dst, []byte(key)), ':')
			dst, err = s.appendCompact(dst)
			return err
		})
		return append(dst, '}'), err
	case '[':
		dst = append(dst, '[')
		err := s.array(func() (err error) {
			separator('[')
			dst, err = s.appendCompact(dst)
			return err
		})
		return append(dst, ']'), err
	}
	v, err := s.value()
	return appendScalar(dst, v), err
}

func appendScalar(dst []byte, v eval.Value) []byte {
	switch v.Kind {
	case eval.String:
		return flagcache.AppendString(dst, []byte(v.Text))
	case eval.True:
		return append(dst, "true"...)
	case eval.False:
		return append(dst, "false"...)
	case eval.Number:
		return append(dst, v.Text...)
	default:
		return append(dst, "null"...)
	}
}
