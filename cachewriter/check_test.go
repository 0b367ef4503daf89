package cachewriter

import (
	"errors"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/internal/testenv"
)

// F31, F38
func TestCheck(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t, testenv.RedisOptions{})
	admin := server.Client(t)
	open := func(address string) *Writer {
		client, err := redisconn.Open(redisconn.Config{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return New(Config{Client: client, Prefix: "p"})
	}
	other := testSource
	other.SystemID = "8000"
	for _, test := range []struct {
		name   string
		before [][]any
		url    string
		source change.Source
		fatal  bool
		want   string // in a finding; empty = no finding
	}{
		{"in order", [][]any{{"config", "set", "save", "900 1"}}, server.URL, testSource, false, ""},
		{"no persistence", [][]any{{"config", "set", "save", ""}}, server.URL, testSource, false, "keeps nothing on disk"},
		{"eviction", [][]any{{"config", "set", "save", "900 1", "maxmemory-policy", "allkeys-lru"}}, server.URL, testSource, true, "allkeys-lru"},
		{"volatile", [][]any{{"config", "set", "maxmemory-policy", "volatile-ttl", "maxmemory", "1gb"}}, server.URL, testSource, false, "volatile-ttl"},
		{"full", [][]any{{"config", "set", "maxmemory-policy", "noeviction", "maxmemory", "1"}}, server.URL, testSource, false, "refuses writes"},
		{
			"few rights",
			[][]any{{"config", "set", "maxmemory", "0"}, {"acl", "setuser", "few", "on", ">pw", "~{p}:*", "+@connection", "+@scripting", "+@hash", "+del"}},
			strings.Replace(server.URL, "://", "://few:pw@", 1), testSource, true, "lacks rights",
		},
		{
			"rights as told",
			[][]any{{"acl", "setuser", "told", "on", ">pw", "~{p}:*", "+@connection", "+@hash", "+@stream", "+@scripting", "+del", "+exists", "+expire", "+persist", "+rename", "+type", "+time", "+wait"}},
			strings.Replace(server.URL, "://", "://told:pw@", 1), testSource, false, "does not show its settings",
		},
		{"foreign key", [][]any{{"set", "{p}:teams", "x"}}, server.URL, testSource, true, "{p}:teams is a string"},
		{"foreign meta", [][]any{{"del", "{p}:teams"}, {"set", "{p}:meta", "x"}}, server.URL, testSource, true, "{p}:meta is a string"},
		{"another source", [][]any{{"del", "{p}:meta"}, {"hset", "{p}:meta", "system_id", "1", "heartbeat", "9999999999999"}}, server.URL, other, true, "another replicator writes"},
		{"the same source", [][]any{{"hset", "{p}:meta", "system_id", "7301", "database_oid", 5, "slot", "everflag"}}, server.URL, testSource, false, ""},
		{"a replica", [][]any{{"replicaof", "127.0.0.1", "1"}, {"config", "set", "replica-serve-stale-data", "yes"}}, server.URL, testSource, true, "read-only replica"},
	} {
		for _, command := range test.before {
			if err := admin.Do(t.Context(), command...).Err(); err != nil {
				t.Fatalf("%s: %v: %v", test.name, command, err)
			}
		}
		found, err := open(test.url).Check(t.Context(), test.source)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if test.want == "" {
			if len(found) > 0 {
				t.Errorf("%s: %+v, want no finding", test.name, found)
			}
			continue
		}
		if len(found) != 1 || !strings.Contains(found[0].What, test.want) || found[0].Fatal != test.fatal || found[0].Remedy == "" {
			t.Errorf("%s: %+v, want one finding with %q, fatal %t", test.name, found, test.want, test.fatal)
		}
	}
	_, err := open(strings.Replace(server.URL, "://", "://nobody:secret@", 1)).Check(t.Context(), testSource)
	if e, ok := errors.AsType[*Error](err); !ok || !e.Permanent() || strings.Contains(err.Error(), "secret") {
		t.Errorf("Check with a wrong password = %v, want a permanent error without it", err)
	}
}
