package command

import (
	"bytes"
	"testing"
)

func TestSheet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		colour bool
		width  int
		want   string
	}{
		"in a file": {false, 0, "state       ready\n            more of it\n\nlast error  a text that is longer than a narrow terminal is wide\n"},
		"narrow": {
			false, 40,
			"state       ready\n            more of it\n\nlast error  a text that is longer than a\n            narrow terminal is wide\n",
		},
		"too narrow to break": {false, 20, "state       ready\n            more of it\n\nlast error  a text that is longer than a narrow terminal is wide\n"},
		"in colour": {
			true, 40,
			"\x1b[2mstate\x1b[0m       \x1b[32mready\x1b[0m\n            more of it\n\n\x1b[2mlast error\x1b[0m  \x1b[31ma text that is longer than a\x1b[0m\n" +
				"            \x1b[31mnarrow terminal is wide\x1b[0m\n",
		},
	} {
		var out bytes.Buffer
		s := NewSheet(&out)
		if s.colour || s.width != 0 {
			t.Errorf("what is no terminal gets colours (%t) or a width (%d)", s.colour, s.width)
		}
		s.colour, s.width = c.colour, c.width
		s.Line(Good, "state", "ready")
		s.Line(Plain, "", "more of %s", "it")
		s.Line(Plain, "", "")
		s.Line(Bad, "last error", "a text that is longer than a narrow terminal is wide")
		if err := s.Print(); err != nil || out.String() != c.want {
			t.Errorf("%s:\n%q, want\n%q, %v", name, out.String(), c.want, err)
		}
	}
}
