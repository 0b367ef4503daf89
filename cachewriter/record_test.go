package cachewriter

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/everflag/everflag/internal/change"
)

// F52: text goes through as Postgres printed it.
func TestAppendRecord(t *testing.T) {
	value := func(kind change.Kind, text string) change.Column {
		return change.Column{Name: "c", Kind: kind, Text: []byte(text)}
	}
	for _, test := range []struct {
		column change.Column
		want   string
	}{
		{value(change.Text, `a"\`+"\n\x01é"), `"a\"\\\n\u0001é"`},
		{value(change.Text, ""), `""`},
		{value(change.Text, `{a,NULL,"b c"}`), `"{a,NULL,\"b c\"}"`},
		{value(change.Bool, "t"), "true"},
		{value(change.Bool, "f"), "false"},
		{value(change.Number, "9223372036854775807"), "9223372036854775807"},
		{value(change.Number, "-1.10"), "-1.10"},
		{value(change.Number, "NaN"), `"NaN"`},
		{value(change.Number, "-Infinity"), `"-Infinity"`},
		{value(change.JSON, `{"a": [1.10, {}]}`), `{"a": [1.10, {}]}`},
		{value(change.JSON, "null"), "null"},
		{value(change.Secret, "abc"), `"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`},
		{change.Column{Name: "c", State: change.Null, Kind: change.Secret}, "null"},
		{change.Column{Name: "c", State: change.Unchanged}, ` [1, "}"]`[1:]},
	} {
		got, ok := appendRecord(nil, []change.Column{test.column}, []byte(`{"b":{"c":1}, "c" : [1, "}"] ,"d":2}`))
		if want := `{"c":` + test.want + "}"; !ok || string(got) != want {
			t.Errorf("appendRecord(%+v) = %s, %t, want %s", test.column, got, ok, want)
		}
	}
	if _, ok := appendRecord(nil, []change.Column{{Name: "new", State: change.Unchanged}}, []byte(`{"old":1}`)); ok {
		t.Error("appendRecord took a column that the stored record lacks")
	}
	if _, ok := appendRecord(nil, []change.Column{{Name: "new", State: change.Unchanged}}, nil); ok {
		t.Error("appendRecord took a column without a stored record")
	}
}

func TestTokenAndParent(t *testing.T) {
	for record, want := range map[string]string{`{"api_token":"a\u0062c"}`: "abc", `{"api_token":null}`: "", `{"id":1}`: ""} {
		if got, err := tokenOf([]byte(record)); got != want || err != nil {
			t.Errorf("tokenOf(%s) = %q, %v, want %q", record, got, err, want)
		}
	}
	if _, err := tokenOf([]byte(`{"api_token":{}}`)); err == nil {
		t.Error("tokenOf took an object for a token")
	}
	for record, want := range map[string]row{
		`{"feature_flag_id":7}`: {flag, "7"}, `{"feature_flag_id":"k"}`: {flag, "k"}, `{"feature_flag_id":null}`: {}, `{}`: {}, ``: {},
	} {
		if got := parentIn(experiment, []byte(record)); got != want {
			t.Errorf("parentIn(%s) = %v, want %v", record, got, want)
		}
	}
}

// FuzzMember holds the scanner to encoding/json.
func FuzzMember(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, ` { "a\"b" : "\\" , "a" : {"a":[1,"]"]} }`, `{"b":null,"a":"x\\\""}`, `{}`, `[]`, `{"a"`, `{"a":`, `{"a":}`, `{"a":"`} {
		f.Add(seed, "a")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		got := member([]byte(text), name)
		var want map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &want) != nil || want == nil {
			return // no panic is all that is asked for
		}
		if strings.Count(text, `"`+name+`"`) > 1 || strings.Contains(text, `\u`) || strings.Contains(text, `\/`) || strings.Contains(text, "\ufffd") {
			return // a name twice, or spelled in another way than the writer does
		}
		for key := range want { // the writer's names come from AppendString, which has one spelling
			if key != string([]rune(key)) {
				return
			}
		}
		raw, has := want[name]
		if !has || name != string([]rune(name)) {
			return
		}
		if string(got) != string(raw) {
			t.Errorf("member(%q, %q) = %q, want %q", text, name, got, raw)
		}
	})
}

func TestKeys(t *testing.T) {
	m := newPlaces()
	keys := []string{
		"0", "7", "-7", "007", "+7", "-0", "9223372036854775807", "9223372036854775808", "", "-", "x", "0190a0b0-0000-7000-8000-000000000001", "0190A0B0-0000-7000-8000-000000000001",
		"0190a0b0-0000-7000-8000-00000000000g", "0190a0b0+0000-7000-8000-000000000001",
	}
	for i, key := range keys {
		m.put(key, int64(i+1))
	}
	if m.len() != len(keys) {
		t.Errorf("%d keys, want %d: two became one", m.len(), len(keys))
	}
	if m.numbers.used != 4 || len(m.uuids) != 1 {
		t.Errorf("%d numbers and %d UUIDs, want 4 and 1", m.numbers.used, len(m.uuids))
	}
	for i, key := range keys {
		if got := m.get(key); got != int64(i+1) {
			t.Errorf("get(%q) = %d, want %d", key, got, i+1)
		}
		m.remove(key)
		if got := m.get(key); got != 0 {
			t.Errorf("get(%q) = %d after remove", key, got)
		}
	}
}

// TestNumbers holds the table to a map.
func TestNumbers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		var table numbers
		want := map[int64]int64{}
		for range rapid.IntRange(0, 400).Draw(r, "steps") {
			key := rapid.SampledFrom([]int64{rapid.Int64Range(0, 60).Draw(r, "near"), rapid.Int64().Draw(r, "far")}).Draw(r, "key")
			if rapid.IntRange(0, 2).Draw(r, "remove") == 0 {
				delete(want, key)
				table.remove(key)
				continue
			}
			team := rapid.SampledFrom([]int64{1, 7, 1<<31 - 1, 1 << 31, 1<<63 - 1, -5}).Draw(r, "team")
			want[key] = team
			table.put(key, team)
		}
		if table.used != len(want) {
			r.Fatalf("%d keys, want %d", table.used, len(want))
		}
		for key := range int64(60) {
			if got := table.get(key); got != want[key] {
				r.Fatalf("get(%d) = %d, want %d", key, got, want[key])
			}
		}
		for key, team := range want {
			if got := table.get(key); got != team {
				r.Fatalf("get(%d) = %d, want %d", key, got, team)
			}
		}
	})
}

// A million flags cost at most 24 bytes each in the index.
func TestNumbersAreSmall(t *testing.T) {
	t.Parallel()
	var table numbers
	for key := range int64(1_000_000) {
		table.put(key*3, key%1000+1)
	}
	if size := len(table.keys) * 12; size > 24_000_000 {
		t.Errorf("%d bytes for a million keys", size)
	}
}
