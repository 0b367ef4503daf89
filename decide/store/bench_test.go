package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/internal/flagcache"
)

// BenchmarkProgram is what a request pays for its team, with the teams of a large installation.
func BenchmarkProgram(b *testing.B) {
	s, tokens := stocked(b, 100_000)
	for _, token := range tokens[:1000] {
		s.Program(token)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			if _, lookup := s.Program(tokens[n%1000]); lookup != decide.Found {
				b.Fatal(lookup)
			}
		}
	})
}

// BenchmarkPublish is the swap of one team among many.
func BenchmarkPublish(b *testing.B) {
	s, _ := stocked(b, 100_000)
	random := rand.New(rand.NewPCG(3, 4))
	b.ReportAllocs()
	for b.Loop() {
		v := s.view.Load()
		old, _ := v.teams.get(random.Int64N(100_000))
		d := newDraft(v)
		d.teams[old.id] = old.fresh()
		s.view.Store(d.apply(false))
	}
}

// BenchmarkCommitToServed is the time from the start of a write to Redis until a request sees it.
func BenchmarkCommitToServed(b *testing.B) {
	x := setup(b, nil)
	x.w.fill("one", definition{id: 1, mark: "v", flags: 10})
	x.start(b)
	x.wants(b, 3*time.Second, map[string]string{"phc_1": "v"})
	x.Program("phc_1")
	for n := 0; b.Loop(); n++ {
		x.w.put(definition{id: 1, mark: fmt.Sprintf("v%d", n), flags: 10})
		want := flagcache.Version(x.w.epoch, x.w.lsn)
		for {
			if program, _ := x.Program("phc_1"); program.Version() == want {
				break
			}
			runtime.Gosched()
		}
	}
}

// stocked returns a store with teams of three flags.
func stocked(b *testing.B, teams int) (*Store, []string) {
	b.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	s := New(Config{})
	d := newDraft(s.view.Load())
	var p packer
	var tokens []string
	for id := range teams {
		tokens = append(tokens, randomToken(random))
		hash := map[string]string{
			flagcache.VersionField: flagcache.Version(1790000000000, 1),
			"team":                 fmt.Sprintf(`{"id":%d,"api_token":%q}`, id, tokens[id]),
		}
		for n := range 3 {
			hash[fmt.Sprintf("flag:%d", n)] = flagRecord(random, n)
		}
		one, err := p.pack(int64(id), hash, s.codecs.forTeams(teams, []map[string]string{hash}))
		if err != nil {
			b.Fatal(err)
		}
		d.teams[int64(id)] = one
	}
	s.view.Store(d.apply(false))
	return s, tokens
}
