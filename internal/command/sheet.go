package command

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/everflag/everflag/internal/logging"
)

// Mood is how good something is, which a terminal shows as a colour.
type Mood string

// The moods, as a terminal writes them.
const (
	Plain Mood = ""
	Good  Mood = "\x1b[32m"
	Warn  Mood = "\x1b[33m"
	Bad   Mood = "\x1b[31m"

	quiet Mood = "\x1b[2m"
)

// Sheet is a list of names and values for people. On a terminal it has colours, unless NO_COLOR forbids them, and breaks long values at the terminal's
// width; elsewhere each value is one line of plain text.
type Sheet struct {
	out    io.Writer
	colour bool
	width  int // 0 = no limit
	lines  []sheetLine
}

type sheetLine struct {
	name, value string
	mood        Mood
}

// NewSheet returns an empty sheet.
func NewSheet(out io.Writer) *Sheet {
	s := &Sheet{out: out}
	if file, ok := out.(*os.File); ok && logging.IsTerminal(out) {
		s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		s.width, _, _ = term.GetSize(int(file.Fd())) // a terminal without a size has no limit
	}
	return s
}

// Line adds a value. An empty name goes on with the one before; without a value, too, it is a gap.
func (s *Sheet) Line(mood Mood, name, format string, args ...any) {
	s.lines = append(s.lines, sheetLine{name, fmt.Sprintf(format, args...), mood})
}

// Print writes the sheet.
func (s *Sheet) Print() error {
	indent := 0
	for _, l := range s.lines {
		indent = max(indent, len(l.name)+2)
	}
	var text strings.Builder
	for _, l := range s.lines {
		if l.name == "" && l.value == "" {
			text.WriteByte('\n')
			continue
		}
		text.WriteString(s.paint(quiet, l.name) + strings.Repeat(" ", indent-len(l.name)))
		for i, part := range wrap(l.value, s.width-indent) {
			if i > 0 {
				text.WriteString("\n" + strings.Repeat(" ", indent))
			}
			text.WriteString(s.paint(l.mood, part))
		}
		text.WriteByte('\n')
	}
	_, err := io.WriteString(s.out, text.String())
	return err
}

func (s *Sheet) paint(mood Mood, text string) string {
	if !s.colour || mood == Plain || text == "" {
		return text
	}
	return string(mood) + text + "\x1b[0m"
}

// narrowest is the room below which broken lines are harder to read than those that the terminal breaks.
const narrowest = 20

// wrap breaks a text between words. A word that is longer than the room stays whole: somebody may want to copy it.
func wrap(text string, room int) (parts []string) {
	if room < narrowest || utf8.RuneCountInString(text) <= room && !strings.Contains(text, "\n") {
		return []string{text}
	}
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > room:
			parts, line = append(parts, line), word
		default:
			line += " " + word
		}
	}
	return append(parts, line)
}
