package eval

import (
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dlclark/regexp2"
)

const (
	maxPattern  = 10_000  // bytes of a pattern; a longer one counts as invalid
	maxHaystack = 1 << 16 // bytes that the backtracking engine is given
	limitTries  = 2       // its limit is by the clock: a thread that had to wait is not to change an answer
)

// clockOnce makes the clock of the backtracking engine fine enough for its limit to mean something.
var clockOnce sync.Once

// pattern is a compiled regular expression. The linear engine answers wherever both engines mean the same; the backtracking one has a time limit.
type pattern struct {
	linear       *regexp.Regexp
	backtracking func() *regexp2.Regexp // nil if the pattern means the same to both on any text
}

// compilePattern compiles a pattern of PostHog's server, whose engine knows look-around and back-references. ok is false for one that is not valid.
func compilePattern(text string, limit time.Duration) (p *pattern, ok bool) {
	if len(text) > maxPattern || strings.Contains(text, `\Q`) {
		return nil, false
	}
	backtracking := sync.OnceValue(func() *regexp2.Regexp {
		re, err := regexp2.Compile(endOfText(text), regexp2.None)
		if err != nil {
			return nil
		}
		clockOnce.Do(func() { regexp2.SetTimeoutCheckPeriod(time.Millisecond) })
		re.MatchTimeout = limit
		return re
	})
	linear, err := regexp.Compile(text)
	switch {
	case err != nil && backtracking() == nil:
		return nil, false
	case err != nil:
		return &pattern{backtracking: backtracking}, true
	case usesClasses(text):
		return &pattern{linear, backtracking}, true
	default:
		return &pattern{linear: linear}, true
	}
}

// find says whether the pattern occurs in the text. ok is false if the limit was hit first.
func (p *pattern) find(text string) (found, ok bool) {
	if p.linear != nil && (p.backtracking == nil || plainText(text)) {
		return p.linear.MatchString(text), true
	}
	re := p.backtracking()
	if re == nil {
		return p.linear.MatchString(text), true
	}
	if len(text) > maxHaystack {
		return false, false
	}
	for range limitTries {
		if found, err := re.MatchString(text); err == nil {
			return found, true
		}
	}
	return false, false
}

// usesClasses says whether the pattern has a class or boundary that is about ASCII to the linear engine and about Unicode to PostHog's.
func usesClasses(text string) bool {
	for i := 0; i+1 < len(text); i++ {
		if text[i] == '\\' {
			if strings.IndexByte("dDwWsSbB", text[i+1]) >= 0 {
				return true
			}
			i++
		}
	}
	return false
}

// setOperations says whether a class of the pattern contains a class or an operator on classes. PostHog's engine knows both; to the ones here they are
// other characters of the class.
func setOperations(text string) bool {
	start := -1 // of the class that i is in
	for i := 0; i < len(text); i++ {
		rest := text[i:]
		switch {
		case text[i] == '\\':
			i++
		case start < 0 && text[i] == '[':
			start = i + 1
			if strings.HasPrefix(text[start:], "^") {
				start++
			}
			i = start - 1
			if strings.HasPrefix(text[start:], "]") { // a bracket at the start is a character
				i = start
			}
		case start < 0:
		case text[i] == ']':
			start = -1
		case strings.HasPrefix(rest, "[:") && strings.Contains(rest, ":]"):
			i += strings.Index(rest, ":]") + 1
		case text[i] == '[', strings.HasPrefix(rest, "&&"), strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "~~"):
			return true
		}
	}
	return false
}

// plainText says whether those classes mean the same for every character of the text. A vertical tab is white space only to PostHog's engine.
func plainText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c >= 0x80 || c == '\v' {
			return false
		}
	}
	return true
}

// endOfText writes $ as \z: for PostHog's engine it is the end of the text, for the backtracking one also the place before a last line break.
func endOfText(text string) string {
	if !strings.Contains(text, "$") || multiline(text) {
		return text
	}
	var out strings.Builder
	class := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			out.WriteByte(c)
			i++
			out.WriteByte(text[i])
			continue
		case c == '$' && !class:
			out.WriteString(`\z`)
			continue
		case c == '[':
			class = true
		case c == ']':
			class = false
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// multiline says whether the pattern switches on the mode in which $ is the end of a line.
func multiline(text string) bool {
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "(?")
		if !found {
			return false
		}
		flags := after[:len(after)-len(strings.TrimLeft(after, "imsxuUR"))]
		if strings.Contains(flags, "m") {
			return true
		}
		rest = after
	}
}
