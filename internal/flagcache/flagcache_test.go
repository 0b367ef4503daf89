package flagcache

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestKeys(t *testing.T) {
	k := NewKeys("everflag")
	want := Keys{
		"{everflag}:teams", "{everflag}:tokens", "{everflag}:meta", "{everflag}:changes", "{everflag}:probe", "{everflag}:*", "{everflag}:team:", "{everflag}:staged:",
	}
	if k != want {
		t.Errorf("NewKeys = %+v, want %+v", k, want)
	}
	if got := k.Team(17); got != "{everflag}:team:17" {
		t.Errorf("Team(17) = %q", got)
	}
	if got := k.Staged("host/QR7", 3, 17); got != "{everflag}:staged:host/QR7:3:17" {
		t.Errorf("Staged = %q", got)
	}
}

func TestCheckPrefix(t *testing.T) {
	for _, good := range []string{DefaultPrefix, "flags-eu", "a:b.c/1", "é"} {
		if err := CheckPrefix(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "}", "a{b", "a*", "a b", "[a]", "a\n"} {
		if err := CheckPrefix(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestFields(t *testing.T) {
	for field, want := range map[string][2]string{
		"team": {EntityTeam, ""}, "config": {EntityConfig, ""}, "flag:3": {EntityFlag, "3"},
		"context:00000000-0000-0000-0000-000000000001": {EntityContext, "00000000-0000-0000-0000-000000000001"},
	} {
		entity, key, ok := ParseField(field)
		if !ok || entity != want[0] || key != want[1] || Field(entity, key) != field || string(AppendField(nil, entity, key)) != field {
			t.Errorf("ParseField(%q) = %q, %q, %t", field, entity, key, ok)
		}
	}
	for _, field := range []string{VersionField, "", "flag", "flag:", "team:1", "novelty:1"} {
		if entity, key, ok := ParseField(field); ok {
			t.Errorf("ParseField(%q) = %q, %q, want not ok", field, entity, key)
		}
	}
}

func TestVersion(t *testing.T) {
	v := Version(1790000000123, 0x16B374D848)
	if v != "0001790000000123:00000016B374D848" {
		t.Errorf("Version = %q", v)
	}
	epoch, lsn, err := ParseVersion(v)
	if epoch != 1790000000123 || lsn != 0x16B374D848 || err != nil {
		t.Errorf("ParseVersion = %d, %X, %v", epoch, lsn, err)
	}
	for _, bad := range []string{"", "1:2", "0001790000000123-00000016B374D848", "000179000000012x:00000016B374D848", "-000000000000001:0000000000000000"} {
		if _, _, err := ParseVersion(bad); err == nil {
			t.Errorf("ParseVersion(%q): want an error", bad)
		}
	}
}

func TestMeta(t *testing.T) {
	m, err := ParseMeta(nil)
	if err != nil || m != (Meta{}) {
		t.Errorf("ParseMeta of nothing = %+v, %v", m, err)
	}
	m, err = ParseMeta(map[string]string{
		"schema": "1", "system_id": "7301", "timeline": "2", "database_oid": "4294967295", "slot": "everflag", "publication": "everflag_pub",
		"postmaster_start": "1700000000000001", "fingerprint": "abc", "owner": "o1", "epoch": "1790000000123", "seq": "7", "checkpoint": "0/1A",
		"commit_time": "1700000000000002", "heartbeat": "1790000001000", "complete": "1", "reconcile": "TRUNCATE", "later": "x",
	})
	want := Meta{
		1, "7301", 2, 4294967295, "everflag", "everflag_pub", 1700000000000001, "abc", "o1", 1790000000123, 7, "0/1A", 1700000000000002,
		1790000001000, true, "TRUNCATE",
	}
	if err != nil || m != want {
		t.Errorf("ParseMeta = %+v, %v, want %+v", m, err, want)
	}
	if age := m.HeartbeatAge(time.UnixMilli(1790000003500)); age != 2500*time.Millisecond {
		t.Errorf("HeartbeatAge = %v", age)
	}
	if _, err := ParseMeta(map[string]string{"epoch": "soon"}); err == nil {
		t.Error("ParseMeta took an epoch that is no number")
	}
}

func TestEntry(t *testing.T) {
	e, err := ParseEntry("1790000000123-7", map[string]any{"team": "17", "version": "v", "at": "99"})
	if want := (Entry{1790000000123, 7, 17, "v", 99, ""}); err != nil || e != want {
		t.Errorf("ParseEntry = %+v, %v, want %+v", e, err, want)
	}
	e, err = ParseEntry("5-1", map[string]any{"mark": MarkReconciled, "version": "v"})
	if want := (Entry{Epoch: 5, Seq: 1, Version: "v", Mark: MarkReconciled}); err != nil || e != want {
		t.Errorf("ParseEntry = %+v, %v, want %+v", e, err, want)
	}
	for _, id := range []string{"", "5", "x-1"} {
		if _, err := ParseEntry(id, map[string]any{"team": "1"}); err == nil {
			t.Errorf("ParseEntry(%q): want an error", id)
		}
	}
	if _, err := ParseEntry("5-1", map[string]any{}); err == nil {
		t.Error("ParseEntry took an entry that is neither team nor mark")
	}
}

func TestAppendString(t *testing.T) {
	for text, want := range map[string]string{
		"": `""`, "plain": `"plain"`, "a\"b\\c": `"a\"b\\c"`, "\n\r\t\x01\x1f": `"\n\r\t\u0001\u001f"`, "<&>\u2028é😀": "\"<&>\u2028é😀\"", "a\xffb": "\"a\ufffdb\"",
	} {
		if got := string(AppendString(nil, []byte(text))); got != want {
			t.Errorf("AppendString(%q) = %s, want %s", text, got, want)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add([]byte("a\"\\\x00\xff\u2028"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got string
		if err := json.Unmarshal(AppendString(nil, text), &got); err != nil {
			t.Fatalf("not JSON: %v", err)
		}
		if want := string([]rune(string(text))); got != want {
			t.Errorf("decoded %q, want %q", got, want)
		}
	})
}

func TestDecodeTeam(t *testing.T) {
	got, ok := DecodeTeam(17, []string{
		VersionField, "v1", "team", `{"id":17}`, "config", `{}`, "flag:10", `{"id":10}`, "flag:9", `{"id":9}`, "cohort:1", `{}`, "grouptype:1", `{}`,
		"context:a", `{}`, "flagcontext:b", `{}`, "experiment:2", `{}`, "later:1", `{}`,
	})
	empty := []byte(`{}`)
	want := &Team{
		ID: 17, Version: "v1", Team: []byte(`{"id":17}`), Config: empty,
		Flags:   []Record{{"9", []byte(`{"id":9}`)}, {"10", []byte(`{"id":10}`)}},
		Cohorts: []Record{{"1", empty}}, GroupTypes: []Record{{"1", empty}}, Contexts: []Record{{"a", empty}}, FlagContexts: []Record{{"b", empty}},
		Experiments: []Record{{"2", empty}},
	}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("DecodeTeam (-want +got):\n%s", diff)
	}
	if _, ok := DecodeTeam(17, nil); ok {
		t.Error("DecodeTeam took a missing key for a team")
	}
	members, err := Record{"10", []byte(`{"id":10,"filters":{"groups": []},"x":1.10}`)}.Members()
	if err != nil || string(members["filters"]) != `{"groups": []}` || string(members["x"]) != "1.10" {
		t.Errorf("Members = %q, %v: want the raw bytes", members, err)
	}
}
