package decide

import (
	"math/bits"
	"strings"
	"unicode/utf8"
)

// string reads a string. Without escapes it is a slice of the text.
func (s *scanner) string() (string, error) {
	if !s.take('"') {
		return "", errJSONSyntax
	}
	start := s.pos
	end := plainEnd(s.text, start)
	if end == len(s.text) {
		return "", errJSONSyntax
	}
	s.pos = end
	switch s.text[end] {
	case '"':
		s.pos++
		return s.text[start:end], nil
	case '\\':
		return s.unescape(s.text[start:end])
	default:
		return "", errJSONSyntax
	}
}

// plainEnd is the position of the first quote, backslash or control character from start on. It looks at eight bytes at a time: most of a request is strings.
func plainEnd(text string, start int) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	i := start
	for ; i+8 <= len(text); i += 8 {
		t := text[i : i+8]
		w := uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 | uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
		quote, backslash := w^('"'*ones), w^('\\'*ones)
		// A byte of value below n has its high bit set by the subtraction; a false hit can only stand behind a true one.
		if hits := ((quote-ones)&^quote | (backslash-ones)&^backslash | (w-' '*ones)&^w) & highs; hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	for ; i < len(text); i++ {
		if c := text[i]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return i
}

// unescape reads the rest of a string from its first backslash on.
func (s *scanner) unescape(head string) (string, error) {
	out := append(make([]byte, 0, len(head)+64), head...)
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == '"':
			return string(out), nil
		case c < ' ':
			return "", errJSONSyntax
		case c != '\\':
			out = append(out, c)
			continue
		}
		if s.pos == len(s.text) {
			break
		}
		c = s.text[s.pos]
		s.pos++
		if c == 'u' {
			r, err := s.escapedRune()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return "", errJSONSyntax
		}
		out = append(out, "\"\\/\b\f\n\r\t"[i])
	}
	return "", errJSONSyntax
}

// escapedRune is the rune of \uXXXX, or of two of them that are a surrogate pair. A lone surrogate becomes U+FFFD.
func (s *scanner) escapedRune() (rune, error) {
	first, ok := s.hex4()
	if !ok {
		return 0, errJSONSyntax
	}
	if first < 0xD800 || first > 0xDFFF {
		return first, nil
	}
	if first < 0xDC00 && strings.HasPrefix(s.text[s.pos:], `\u`) {
		back := s.pos
		s.pos += 2
		second, ok := s.hex4()
		if !ok {
			return 0, errJSONSyntax
		}
		if second >= 0xDC00 && second <= 0xDFFF {
			return (first-0xD800)<<10 | (second - 0xDC00) + 0x10000, nil
		}
		s.pos = back
	}
	return utf8.RuneError, nil
}

func (s *scanner) hex4() (rune, bool) {
	if s.pos+4 > len(s.text) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s.text[s.pos : s.pos+4]) {
		switch {
		case c-'0' <= 9:
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	s.pos += 4
	return r, true
}
