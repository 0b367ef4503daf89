package decide

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/decide/eval"
)

// scan reads one value with nothing after it.
func scan(text string) (eval.Value, error) {
	s := scanner{text: text}
	v, err := s.value()
	if err == nil && !s.end() {
		err = errAfterJSON
	}
	return v, err
}

func TestScanner(t *testing.T) {
	for text, want := range map[string]eval.Value{
		`null`: {}, `NaN`: {}, `Infinity`: {}, `-Infinity`: {}, ` true `: {Kind: eval.True}, "\tfalse\r\n": {Kind: eval.False},
		`0`: {Kind: eval.Number, Text: "0"}, `-0.0`: {Kind: eval.Number, Text: "-0.0"}, `12.5e+3`: {Kind: eval.Number, Text: "12.5e+3"},
		`""`: {Kind: eval.String}, `"a"`: {Kind: eval.String, Text: "a"}, `"\"\\\/\b\f\n\r\t"`: {Kind: eval.String, Text: "\"\\/\b\f\n\r\t"},
		`"\u0041\u00e9\ud83d\ude00"`: {Kind: eval.String, Text: "Aé😀"}, `"\ud83d"`: {Kind: eval.String, Text: "\ufffd"}, `"\ude00x"`: {Kind: eval.String, Text: "\ufffdx"},
		`"\ud83d\u0041"`: {Kind: eval.String, Text: "\ufffdA"}, `"x\ud83d\n"`: {Kind: eval.String, Text: "x\ufffd\n"},
		`[]`: {Kind: eval.Array, Text: "[]"}, `[1,{"a":[]}]`: {Kind: eval.Array, Text: `[1,{"a":[]}]`}, `[1, {"a": 2}]`: {Kind: eval.Array, Text: `[1,{"a":2}]`}, `[ 1 , NaN ]`: {Kind: eval.Array, Text: `[1,null]`},
		`[-Infinity]`: {Kind: eval.Array, Text: `[null]`}, `{"\u0061" : "\u003c\u2028"}`: {Kind: eval.Object, Text: "{\"a\":\"<\u2028\"}"},
		`["a b"]`: {Kind: eval.Array, Text: `["a b"]`}, `[["",[]],{"":{}}]`: {Kind: eval.Array, Text: `[["",[]],{"":{}}]`},
	} {
		if got, err := scan(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		``, ` `, `nul`, `tru`, `True`, `nan`, `+1`, `01`, `1.`, `.5`, `1e`, `-`, `--1`, `"`, `"\`, `"\x"`, `"\u12"`, `"\ud83d\u12"`, "\"\n\"", "\"\\\n\"", `[`, `[1`, `[1,`, `[1,]`, `[,1]`,
		`{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{,}`, `]`, `}`, `1 2`, `'a'`, "\x00",
	} {
		if got, err := scan(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// FuzzScanner holds the scanner to encoding/json: what that reads, it reads, and to the same value.
func FuzzScanner(f *testing.F) { // S46
	for _, seed := range []string{`{"a":[1,2.5e3,"x\n",null,true]}`, `[[],{},""]`, `"\ud83d\ude00"`, `-0`, ` [ "a b" , 1 ] `, `{"a":1,"a":2}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := scan(text)
		valid := json.Valid([]byte(text))
		if err != nil {
			if valid && !errors.Is(err, errJSONDepth) && !errors.Is(err, errJSONValues) {
				t.Fatalf("%q is valid: %v", text, err)
			}
			return
		}
		written := appendScalar(nil, got)
		if got.Kind == eval.Array || got.Kind == eval.Object {
			written = []byte(got.Text)
		}
		if !valid || !utf8.ValidString(text) {
			if utf8.ValidString(text) && !json.Valid(written) {
				t.Fatalf("%q became %q", text, written)
			}
			return
		}
		var want, have any
		if json.Unmarshal([]byte(text), &want) != nil { // a number beyond float64
			return
		}
		if err := json.Unmarshal(written, &have); err != nil {
			t.Fatalf("%q became %q: %v", text, written, err)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("%q became %q:\n%s", text, written, diff)
		}
	})
}

// FuzzRequest sends any body in any encoding to the whole handler: no panic, no 5xx, and every answer is readable. S46.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(anyone), "v=2", "application/json", "")
	f.Add([]byte("data=eyJ0b2tlbiI6ICJ0In0%3D"), "v=3&compression=base64", "application/x-www-form-urlencoded", "")
	f.Add([]byte(zipped(f, strings.Repeat("{", 100))), "compression=gzip-js", "text/plain", "gzip")
	f.Add([]byte(`{"token":"phc_test","distinct_id":null,"groups":null,"person_properties":{"a":[[[]]]},"group_properties":{"g":null}}`), "", "", "")
	f.Add([]byte("N4IgbiBcIEYIYCcCWIC+Q"), "compression=lz64", "text/plain", "")
	f.Add([]byte("\xff\xfe{\"token\":\"\xe2\x82\"}"), "config=1&v=%zz", "application/json; charset=utf-16", "br")
	current, _ := newTestHandler(f, Config{}, everyone("on"), plan("pro-only"))
	django, _ := newTestHandler(f, Config{Rules: eval.Rules2023}, everyone("on"), plan("pro-only"))
	f.Fuzz(func(t *testing.T, body []byte, query, contentType, encoding string) {
		for _, h := range []*Handler{current, django} {
			for _, path := range []string{"/flags/", "/decide/", "/ofrep/v1/evaluate/flags"} {
				r := httptest.NewRequest("POST", path, strings.NewReader(string(body)))
				r.URL.RawQuery = query
				r.Header = http.Header{"Content-Type": {contentType}, "Content-Encoding": {encoding}, "X-Api-Key": {"phc_test"}}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code >= 500 {
					t.Fatalf("%s: got %d %s", path, w.Code, w.Body)
				}
				if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
					t.Fatalf("%s: answer is not JSON: %s", path, w.Body)
				}
			}
		}
	})
}

func TestLossy(t *testing.T) {
	for data, want := range map[string]string{
		"plain": "plain", "\xff": "\ufffd", "a\xe2\x82b": "a\ufffdb", "\xe2\x82\xac": "€", "\xf0\x9f\x98": "\ufffd", "\xf0\x9f\x98\xff": "\ufffd\ufffd", "\xc0\x80": "\ufffd\ufffd",
		"\xed\xa0\x80": "\ufffd\ufffd\ufffd",
	} {
		if got := lossy([]byte(data)); got != want {
			t.Errorf("%q: got %q, want %q", data, got, want)
		}
	}
}

// The encodings that only the server of 2023 took.
func TestDjangoBodies(t *testing.T) {
	h, _ := newTestHandler(t, Config{Rules: eval.Rules2023}, everyone("on"))
	for name, c := range map[string]struct{ query, contentType, body string }{
		"form with key":   {"", "application/x-www-form-urlencoded", "data=eyJkaXN0aW5jdF9pZCI6InUifQ%3D%3D&api_key=phc_test"},
		"unknown type":    {"", "application/octet-stream", "data=eyJ0b2tlbiI6InBoY190ZXN0IiwiZGlzdGluY3RfaWQiOiJ1In0="},
		"blanks for plus": {"", "text/plain", "eyJ0b2tlbiI6InBoY190ZXN0IiwiZGlzdGluY3RfaWQiOiJ1In0"},
	} {
		if w := call(h, "POST", "/decide/?v=3"+c.query, c.body, "Content-Type", c.contentType); w.Code != 200 {
			t.Errorf("%s: got %d %s", name, w.Code, w.Body)
		}
	}
}

// The texts are what LZString.compressToBase64 of npm's lz-string 1.5 makes.
func TestLZDecode(t *testing.T) {
	for text, want := range map[string]string{
		"N4IgLg9g1gpgdiAXCADgCwMYH0wwM5ggA0IAJgJYHlwZhbmlIgCuIAvkA===": `{"token":"phc_test","distinct_id":"u"}`,
		"N4IgLg9g1gpgdiAXCADgCwMYH0wwM5ggA0IAJgJYHlwZhbmlIgA/cA94LwbgAHsAEgp6aAac2KoYAJzwQ4WFKIgoxYcviSgAhk1Wat2nbr36DhkAF9jQA===": `{"token":"phc_test","distinct_id":"ünï😀 日本","person_properties":{"a":"` +
			strings.Repeat("a", 55) + `"}}`,
		"IZA=": "a",
	} {
		if got, err := lzDecodeBase64(text); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "I", "Q===", "!!", "N4IgLg9g1gpgdi", "////"} {
		if got, err := lzDecodeBase64(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
	h, _ := newTestHandler(t, Config{Rules: eval.Rules2023}, everyone("on"))
	const body = "N4IgLg9g1gpgdiAXCADgCwMYH0wwM5ggA0IAJgJYHlwZhbmlIgCuIAvkA==="
	for contentType, sent := range map[string]string{"text/plain": body, "application/x-www-form-urlencoded": "data=" + body} {
		if w := call(h, "POST", "/decide/?v=3&compression=lz64", sent, "Content-Type", contentType); w.Code != 200 {
			t.Errorf("%s: got %d %s", contentType, w.Code, w.Body)
		}
	}
}
