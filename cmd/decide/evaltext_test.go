package main

import (
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// TestEvalText pins what the command that explains prints. EVERFLAG_UPDATE=1 writes it anew.
func TestEvalText(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 15, 0, 0, 0, time.UTC)
	var text strings.Builder
	for _, status := range []store.Status{
		{Source: "redis", Position: flagcache.Version(7, 0x1A60630), SnapshotFile: "/not/asked", SnapshotAt: &now},
		{Source: "file", Position: flagcache.Version(7, 0x1A60630), AgeSeconds: 3900, SnapshotFile: "/var/lib/everflag/decide.snapshot", SnapshotAt: new(now.Add(-time.Hour))},
	} {
		body := `{"distinct_id":"u7","person_properties":{"plan":"pro","age":20},"flag_keys_to_evaluate":["plain","lot","cohorts","broken"]}`
		explanation, err := decide.Explain(eval.Compile(harbour(), eval.Options{}), []byte(body), now)
		if err != nil {
			t.Fatal(err)
		}
		e := explained{explanation, provenanceOf(status)}
		if err := e.writeText(&text, now); err != nil {
			t.Fatal(err)
		}
		text.WriteString("----\n")
	}
	testenv.Golden(t, "testdata/eval.golden", text.String())
}
