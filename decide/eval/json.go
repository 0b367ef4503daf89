package eval

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document, and with it every recursion over one.
const maxDepth = 256

var (
	errSyntax = errors.New("not valid JSON")
	errDepth  = errors.New("JSON nested too deeply")
)

// node is a parsed JSON value. It refers to the document instead of copying it.
type node struct {
	Value
	raw   string // the text of the value in the document
	names []string
	items []node // the elements of an array, the values of an object
}

// parseJSON reads one JSON document. With errDepth it returns the document with nulls in place of what is nested too deeply.
func parseJSON(text string) (node, error) {
	r := reader{text: text}
	n := r.value(0)
	r.space()
	if r.err == nil && r.at < len(text) {
		r.err = errSyntax
	}
	if r.err == nil && r.deep {
		return n, errDepth
	}
	return n, r.err
}

// member is the value of an object's member, nil if there is none. The last of several with one name counts.
func (n *node) member(name string) *node {
	if n == nil {
		return nil
	}
	for i := len(n.names) - 1; i >= 0; i-- {
		if n.names[i] == name {
			return &n.items[i]
		}
	}
	return nil
}

// present is member without the distinction between absent and null: both are nil.
func (n *node) present(name string) *node {
	if m := n.member(name); m != nil && m.Kind != Null {
		return m
	}
	return nil
}

func (n *node) is(kind Kind) bool {
	return n != nil && n.Kind == kind
}

func (n *node) truth() bool {
	return n.is(True)
}

// integer is the value of a JSON number without fraction, or of a string that holds one.
func (n *node) integer() (int64, bool) {
	if n == nil || n.Kind != Number && n.Kind != String {
		return 0, false
	}
	i, err := strconv.ParseInt(n.Text, 10, 64)
	return i, err == nil
}

func (n *node) float() (float64, bool) {
	if !n.is(Number) {
		return 0, false
	}
	f, err := strconv.ParseFloat(n.Text, 64)
	return f, err == nil
}

type reader struct {
	text string
	at   int
	deep bool // something was nested too deeply
	err  error
}

func (r *reader) fail(err error) node {
	if r.err == nil {
		r.err = err
	}
	r.at = len(r.text)
	return node{}
}

func (r *reader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// skip steps over the byte if it comes next, after white space.
func (r *reader) skip(c byte) bool {
	r.space()
	if r.at < len(r.text) && r.text[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *reader) value(depth int) node {
	r.space()
	if r.at >= len(r.text) {
		return r.fail(errSyntax)
	}
	if c := r.text[r.at]; depth > maxDepth && (c == '{' || c == '[') {
		r.deep = true
		r.skipBrackets()
		return node{}
	}
	start := r.at
	var n node
	switch c := r.text[start]; {
	case c == '{':
		n = r.object(depth)
	case c == '[':
		n = r.array(depth)
	case c == '"':
		n.Kind, n.Text = String, r.string()
	case c == '-' || c >= '0' && c <= '9':
		n.Kind, n.Text = Number, r.number()
	default:
		n.Kind = r.word()
	}
	if r.err == nil {
		n.raw = r.text[start:r.at]
	}
	return n
}

// members calls visit with the name and the text of each member of an object, without looking into the values.
func members(text string, visit func(name, raw string)) {
	r := reader{text: text}
	if !r.skip('{') {
		return
	}
	for r.skip('"') {
		r.at--
		name := r.string()
		if !r.skip(':') {
			return
		}
		r.space()
		start := r.at
		r.skipValue()
		if r.err != nil {
			return
		}
		visit(name, text[start:r.at])
		if !r.skip(',') {
			return
		}
	}
}

func (r *reader) skipValue() {
	if r.at == len(r.text) {
		r.fail(errSyntax)
		return
	}
	switch r.text[r.at] {
	case '{', '[':
		r.skipBrackets()
	case '"':
		r.string()
	default:
		for r.at < len(r.text) && strings.IndexByte(",]} \t\n\r", r.text[r.at]) < 0 {
			r.at++
		}
	}
}

// skipBrackets steps over an object or array without looking at more than its brackets and strings.
func (r *reader) skipBrackets() {
	for open := 0; r.at < len(r.text); {
		switch r.text[r.at] {
		case '"':
			r.string()
			continue
		case '{', '[':
			open++
		case '}', ']':
			open--
		}
		r.at++
		if open == 0 {
			return
		}
	}
	r.fail(errSyntax)
}

func (r *reader) word() Kind {
	for kind, word := range [...]string{Null: "null", False: "false", True: "true"} {
		if strings.HasPrefix(r.text[r.at:], word) {
			r.at += len(word)
			return Kind(kind)
		}
	}
	r.fail(errSyntax)
	return Null
}

func (r *reader) object(depth int) node {
	n := node{Value: Value{Kind: Object}}
	r.at++
	if r.skip('}') {
		return n
	}
	for r.err == nil {
		r.space()
		if r.at >= len(r.text) || r.text[r.at] != '"' {
			return r.fail(errSyntax)
		}
		n.names = append(n.names, r.string())
		if !r.skip(':') {
			return r.fail(errSyntax)
		}
		n.items = append(n.items, r.value(depth+1))
		if r.skip('}') {
			return n
		}
		if !r.skip(',') {
			return r.fail(errSyntax)
		}
	}
	return n
}

func (r *reader) array(depth int) node {
	n := node{Value: Value{Kind: Array}}
	r.at++
	if r.skip(']') {
		return n
	}
	for r.err == nil {
		n.items = append(n.items, r.value(depth+1))
		if r.skip(']') {
			return n
		}
		if !r.skip(',') {
			return r.fail(errSyntax)
		}
	}
	return n
}

func (r *reader) digits() bool {
	start := r.at
	for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
		r.at++
	}
	return r.at > start
}

func (r *reader) next(set string) bool {
	if r.at < len(r.text) && strings.IndexByte(set, r.text[r.at]) >= 0 {
		r.at++
		return true
	}
	return false
}

func (r *reader) number() string {
	start := r.at
	r.next("-")
	leading := r.at
	ok := r.digits()
	ok = ok && (r.text[leading] != '0' || r.at == leading+1)
	if r.next(".") {
		ok = r.digits() && ok
	}
	if r.next("eE") {
		r.next("+-")
		ok = r.digits() && ok
	}
	if !ok {
		r.fail(errSyntax)
		return ""
	}
	return r.text[start:r.at]
}

func (r *reader) string() string {
	r.at++
	start := r.at
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return r.text[start : r.at-1]
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			r.fail(errSyntax)
			return ""
		}
		r.at++
	}
	r.fail(errSyntax)
	return ""
}

// escaped reads the rest of a string in which an escape was met.
func (r *reader) escaped(start int) string {
	out := []byte(r.text[start:r.at])
	for r.at < len(r.text) {
		c := r.text[r.at]
		r.at++
		switch {
		case c == '"':
			return string(out)
		case c < ' ':
			r.fail(errSyntax)
			return ""
		case c != '\\':
			out = append(out, c)
		case r.at >= len(r.text):
		default:
			out = r.escape(out)
		}
	}
	r.fail(errSyntax)
	return ""
}

func (r *reader) escape(out []byte) []byte {
	c := r.text[r.at]
	r.at++
	if c == 'u' {
		u := r.hex4()
		if utf16.IsSurrogate(u) && strings.HasPrefix(r.text[r.at:], `\u`) {
			back := r.at
			r.at += 2
			if pair := utf16.DecodeRune(u, r.hex4()); pair != utf8.RuneError {
				return utf8.AppendRune(out, pair)
			}
			r.at = back
		}
		return utf8.AppendRune(out, u) // a lone surrogate becomes U+FFFD
	}
	const escapes, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if i := strings.IndexByte(escapes, c); i >= 0 {
		return append(out, meant[i])
	}
	r.fail(errSyntax)
	return out
}

func (r *reader) hex4() rune {
	if r.at+4 <= len(r.text) {
		if u, err := strconv.ParseUint(r.text[r.at:r.at+4], 16, 16); err == nil {
			r.at += 4
			return rune(u)
		}
	}
	r.fail(errSyntax)
	return 0
}
