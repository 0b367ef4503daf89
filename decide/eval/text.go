package eval

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/everflag/everflag/internal/flagcache"
)

// scalarText is the text that a null, boolean, number or string is compared by.
func scalarText(v Value) string {
	switch v.Kind {
	case Null:
		return "null"
	case False:
		return "false"
	case True:
		return "true"
	case Number:
		return NumberText(v.Text)
	default:
		return v.Text
	}
}

// valueText is the text that any value is compared by. It allocates for arrays and objects.
func valueText(v Value) string {
	if v.Kind != Array && v.Kind != Object {
		return scalarText(v)
	}
	n, err := parseJSON(v.Text)
	if err != nil {
		return v.Text
	}
	return string(appendCompact(nil, &n))
}

// NumberText renders the literal of a JSON number as PostHog does: an integer as it stands, anything else as the shortest decimal that reads back as
// the same float64, with at least one digit after the point. 1 and 1.0 stay apart, 1.50 and 1.5 do not.
func NumberText(literal string) string {
	if !strings.ContainsAny(literal, ".eE") {
		return literal
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return literal
	}
	if a := math.Abs(f); a != 0 && (a < 1e-5 || a >= 1e16) {
		text := strconv.FormatFloat(f, 'e', -1, 64)
		text = strings.Replace(text, "e+0", "e", 1)
		text = strings.Replace(text, "e-0", "e-", 1)
		return strings.Replace(text, "e+", "e", 1)
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if strings.IndexByte(text, '.') < 0 {
		text += ".0"
	}
	return text
}

func appendQuoted(dst []byte, text string) []byte {
	return flagcache.AppendString(dst, []byte(text))
}

// lower is the full Unicode lower-casing: the simple one with the two special cases that change text in any language.
func lower(text string) string {
	i := 0
	for i < len(text) && text[i] < utf8.RuneSelf {
		i++
	}
	if i == len(text) {
		return strings.ToLower(text)
	}
	out := make([]byte, 0, len(text)+4)
	for i, r := range text {
		switch r {
		case 'İ':
			out = append(out, "i̇"...)
		case 'Σ':
			if finalSigma(text, i) {
				out = append(out, "ς"...)
			} else {
				out = append(out, "σ"...)
			}
		default:
			out = utf8.AppendRune(out, unicode.ToLower(r))
		}
	}
	return string(out)
}

// finalSigma is Unicode's Final_Sigma: a cased letter before it and none after it, case-ignorable ones aside.
func finalSigma(text string, at int) bool {
	return casedAtEnd(text[:at]) && !casedAtStart(text[at+len("Σ"):])
}

func casedAtEnd(text string) bool {
	for len(text) > 0 {
		r, size := utf8.DecodeLastRuneInString(text)
		if !caseIgnorable(r) {
			return cased(r)
		}
		text = text[:len(text)-size]
	}
	return false
}

func casedAtStart(text string) bool {
	for _, r := range text {
		if !caseIgnorable(r) {
			return cased(r)
		}
	}
	return false
}

func cased(r rune) bool {
	return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

func caseIgnorable(r rune) bool {
	return strings.ContainsRune("'.:·’‘․﹒＇．︓﹕：", r) || unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}

// lowerASCII lower-cases the letters A to Z only.
func lowerASCII(text string) string {
	if upperASCII(text) < 0 {
		return text
	}
	out := []byte(text)
	foldASCII(out)
	return string(out)
}

func upperASCII(text string) int {
	for i := range len(text) {
		if c := text[i]; c >= 'A' && c <= 'Z' {
			return i
		}
	}
	return -1
}

func foldASCII(text []byte) {
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			text[i] = c + ('a' - 'A')
		}
	}
}

// parseFloat reads what PostHog's server reads as a number: a decimal with optional sign, point and exponent, and the words inf, infinity and nan.
func parseFloat(text string) (float64, bool) {
	if text == "" || strings.ContainsAny(text, "xX_pP") {
		return 0, false
	}
	word := text
	if word[0] == '+' || word[0] == '-' {
		word = word[1:]
	}
	if strings.EqualFold(word, "nan") {
		return math.NaN(), true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// appendCompact renders a value as PostHog does when it compares text: no blanks, members in the order of their names, numbers by NumberText.
func appendCompact(dst []byte, n *node) []byte {
	switch n.Kind {
	case String:
		return appendQuoted(dst, n.Text)
	case Array:
		dst = append(dst, '[')
		for i := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCompact(dst, &n.items[i])
		}
		return append(dst, ']')
	case Object:
		dst = append(dst, '{')
		for i, name := range sortedNames(n) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, name), ':')
			dst = appendCompact(dst, n.member(name))
		}
		return append(dst, '}')
	default:
		return append(dst, scalarText(n.Value)...)
	}
}

func sortedNames(n *node) []string {
	names := slices.Clone(n.names)
	slices.Sort(names)
	return slices.Compact(names)
}
