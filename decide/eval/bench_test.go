package eval

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/everflag/everflag/internal/flagcache"
)

// referenceTeam has the flags of the reference request: each with a rollout and one or two property conditions, every tenth multivariate.
func referenceTeam(flags int) *Program {
	rows := make([]string, 0, flags)
	for i := range flags {
		variants := ""
		if i%10 == 0 {
			variants = `,"multivariate":{"variants":[{"key":"control","rollout_percentage":50},{"key":"test","rollout_percentage":50}]},
				"payloads":{"test":"{\"layout\":\"new\"}"}`
		}
		second := ""
		if i%2 == 0 {
			second = `,{"key":"country","type":"person","operator":"is_not","value":["DE","FR"]}`
		}
		filters := fmt.Sprintf(`{"groups":[{"properties":[{"key":"plan","type":"person","operator":"exact","value":["%s"]}%s],
			"rollout_percentage":%d}]%s}`, []string{"enterprise", "free", "team"}[i%3], second, 10+i, variants)
		rows = append(rows, flagOf(i+1, fmt.Sprintf("feature-flag-number-%d", i), filters))
	}
	return Compile(teamOf(rows...), Options{})
}

func referenceInput(tb testing.TB) *Input {
	return inputOf(tb, `{"distinct_id":"018f4d3c-8b1e-7a55-9b0a-3d2f4c5e6a7b","person_properties":{"plan":"enterprise","country":"US",
		"email":"someone@company.test","$browser":"Chrome","$os":"Mac OS X"}}`)
}

func TestEvaluateAndEncodeDoNotAllocate(t *testing.T) { // S41
	p, in, s := referenceTeam(50), referenceInput(t), &Scratch{}
	in.Person[0].Value.Text = "ENTERPRISE" // a text that has to be changed for comparison
	dst := p.Evaluate(in, s).AppendFlagsV2(nil)
	if n := len(s.decision.Results); n != 50 {
		t.Fatalf("%d results", n)
	}
	allocs := testing.AllocsPerRun(100, func() {
		d := p.Evaluate(in, s)
		dst = d.AppendFlagsV2(dst[:0])
		dst = d.AppendFeatureFlags(dst[:0])
		dst = d.AppendPayloads(dst[:0])
		dst = d.AppendEnabledMap(dst[:0])
		dst = d.AppendEnabledList(dst[:0])
	})
	if allocs != 0 && !instrumented {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkEvaluateAndEncode(b *testing.B) {
	for _, flags := range []int{50, 350} {
		b.Run(fmt.Sprintf("flags=%d", flags), func(b *testing.B) {
			p, in, s := referenceTeam(flags), referenceInput(b), &Scratch{}
			dst := p.Evaluate(in, s).AppendFlagsV2(nil)
			b.ReportAllocs()
			b.SetBytes(int64(len(dst)))
			for b.Loop() {
				dst = p.Evaluate(in, s).AppendFlagsV2(dst[:0])
			}
		})
	}
}

func BenchmarkEvaluate(b *testing.B) {
	p, in, s := referenceTeam(50), referenceInput(b), &Scratch{}
	b.ReportAllocs()
	for b.Loop() {
		p.Evaluate(in, s)
	}
}

func BenchmarkHash(b *testing.B) {
	s := &Scratch{}
	for b.Loop() {
		s.hash("feature-flag-number-7.", "018f4d3c-8b1e-7a55-9b0a-3d2f4c5e6a7b", "")
	}
}

// ordinaryTeam has flags as most teams have them.
func ordinaryTeam(flags int) *flagcache.Team {
	rows := make([]string, 0, flags)
	for i := range flags {
		rows = append(rows, flagOf(i+1, fmt.Sprintf("flag-%d", i), `{"groups":[{"properties":[{"key":"plan","type":"person","operator":"exact",
			"value":["enterprise"]}],"rollout_percentage":50},{"properties":[],"rollout_percentage":10}],"payloads":{"true":"{\"a\":1}"}}`))
	}
	return teamOf(rows...)
}

func BenchmarkCompile(b *testing.B) {
	for _, flags := range []int{0, 10} {
		b.Run(fmt.Sprintf("flags=%d", flags), func(b *testing.B) {
			team := ordinaryTeam(flags)
			b.ReportAllocs()
			for b.Loop() {
				Compile(team, Options{})
			}
			const kept = 1000
			programs := make([]*Program, kept)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for i := range programs {
				programs[i] = Compile(team, Options{})
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/kept, "kept-B")
			runtime.KeepAlive(programs)
		})
	}
}
