package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"time"

	"github.com/posthog/posthog-go"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

const distinctID = "0190a9f2-51aa-7d50-a5b5-0c5c1f0c3b11"

// evaluationSection measures the evaluator with the flags of the reference request, and beside that of PostHog's Go library.
func evaluationSection(_ context.Context, h *harness) error {
	h.report.table("flags", "evaluator", "CPU µs", "ns per flag", "allocations", "ratio")
	for _, flags := range []int{10, 50, 350} {
		ours, _ := evaluator(flags, func(i int) string { return referenceFilters(i, false) })
		var t timing
		for range h.rounds() {
			t.add(func() { ours() }, h.span()/4)
		}
		h.report.row(fmt.Sprint(flags, ", reference request"), "everflag, with encoding", t.micros, t.micros.median()/float64(flags)*1e3, t.allocations, "")
		if flags == 50 {
			h.report.atMost("evaluation and encoding of 50 flags", t.micros, 4, " µs")
			h.report.atMost("allocations of that", t.allocations, 0, "")
		}
	}
	for _, flags := range []int{10, 50, 350} {
		if err := h.besideLibrary(flags); err != nil {
			return err
		}
	}
	h.report.note("Beside posthog-go a flag has properties or a rollout, not both: version 1.5.2 does not look at the rollout of a condition with properties " +
		"(isConditionMatch returns true), so with both it would answer something else and hash less. The answers are compared before the rounds.")
	h.report.note("Ours includes the encoding of the answer; posthog-go returns a map of values.")
	return nil
}

// evaluator returns a function that evaluates a team's flags and returns the encoded answer, and the definitions.
func evaluator(flags int, filters func(int) string) (func() []byte, []string) {
	team := &flagcache.Team{ID: 1, Version: "v", Team: fmt.Appendf(nil, `{"id":1,"api_token":%q,"timezone":"UTC"}`, referenceToken)}
	var definitions []string
	for i := range flags {
		row := fmt.Sprintf(`{"id":%d,"key":%q,"active":true,"deleted":false,"version":1,"filters":%s}`, i+1, referenceKey(i), filters(i))
		team.Flags = append(team.Flags, flagcache.Record{Key: fmt.Sprint(i + 1), JSON: []byte(row)})
		definitions = append(definitions, row)
	}
	person := []eval.Property{
		{Key: "plan", Value: eval.Value{Kind: eval.String, Text: "pro"}},
		{Key: "age", Value: eval.Value{Kind: eval.Number, Text: "42"}},
		{Key: "email", Value: eval.Value{Kind: eval.String, Text: "someone@example.com"}},
		{Key: "country", Value: eval.Value{Kind: eval.String, Text: "DE"}},
	}
	program, in, scratch := eval.Compile(team, eval.Options{}), &eval.Input{DistinctID: distinctID, Person: person, Now: time.Now()}, &eval.Scratch{}
	var answer []byte
	return func() []byte {
		answer = program.Evaluate(in, scratch).AppendFlagsV2(answer[:0])
		return answer
	}, definitions
}

// besideLibrary compares with PostHog's Go library: the same definitions, the same person, the same answers.
func (h *harness) besideLibrary(flags int) error {
	ours, definitions := evaluator(flags, libraryFilters)
	client, stop, err := library(definitions)
	if err != nil {
		return err
	}
	defer stop()
	ask := libraryRequest()
	if err := agree(ours(), client, ask, flags); err != nil {
		return err
	}
	var a, b timing
	err = h.turns(func() error { a.add(func() { ours() }, h.span()/4); return nil }, func() error {
		b.add(func() { _, _ = client.GetAllFlags(ask) }, h.span()/4) // that it works has been seen
		return nil
	})
	ratio := b.micros.ratio(a.micros)
	h.report.row(flags, "everflag, with encoding", a.micros, a.micros.median()/float64(flags)*1e3, a.allocations, ratio)
	h.report.row(flags, "posthog-go", b.micros, b.micros.median()/float64(flags)*1e3, b.allocations, "1.00")
	if flags == 50 {
		h.report.atLeast("vs posthog-go local evaluation", ratio, 6, "×")
	}
	return err
}

// libraryFilters are those of the reference request, taken apart: a rollout, or properties, of which every second matches.
func libraryFilters(i int) string {
	if i%2 == 0 {
		variants := ""
		if i%10 == 0 {
			variants = `,"multivariate":{"variants":[{"key":"control","rollout_percentage":50},{"key":"test","rollout_percentage":50}]}`
		}
		return fmt.Sprintf(`{"groups":[{"properties":[],"rollout_percentage":%d}]%s}`, 50+i%50, variants)
	}
	return fmt.Sprintf(`{"groups":[{"properties":[{"key":"age","type":"person","operator":"gt","value":18},`+
		`{"key":"plan","type":"person","operator":"exact","value":[%q]}]}]}`, []string{"pro", "free"}[i/2%2])
}

// libraryRequest is the request that evaluator evaluates.
func libraryRequest() posthog.FeatureFlagPayloadNoKey {
	return posthog.FeatureFlagPayloadNoKey{
		DistinctId: distinctID, OnlyEvaluateLocally: true,
		PersonProperties: posthog.NewProperties().Set("plan", "pro").Set("age", 42).Set("email", "someone@example.com").Set("country", "DE"),
	}
}

// library returns PostHog's client with the definitions loaded.
func library(definitions []string) (posthog.Client, func(), error) {
	feed := fmt.Sprintf(`{"flags":[%s],"group_type_mapping":{},"cohorts":{}}`, strings.Join(definitions, ","))
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(feed)) // the client says what is missing
	}))
	client, err := posthog.NewWithConfig(referenceToken, posthog.Config{
		Endpoint: upstream.URL, PersonalApiKey: "phx_benchmark", DefaultFeatureFlagsPollingInterval: time.Hour, Interval: time.Hour,
	})
	if err != nil {
		upstream.Close()
		return nil, nil, err
	}
	stop := func() {
		_ = client.Close() // nothing was captured
		upstream.Close()
	}
	return client, stop, nil
}

// agree holds both answers against each other: a comparison of speed is worth nothing if one of them does something else.
func agree(answer []byte, client posthog.Client, ask posthog.FeatureFlagPayloadNoKey, flags int) error {
	var ours map[string]struct {
		Enabled bool
		Variant *string
	}
	if err := json.Unmarshal(answer, &ours); err != nil {
		return err
	}
	theirs, err := client.GetAllFlags(ask)
	if err != nil {
		return fmt.Errorf("posthog-go: %w", err)
	}
	if len(ours) != flags || len(theirs) != flags {
		return fmt.Errorf("%d flags, of which we evaluate %d and posthog-go %d", flags, len(ours), len(theirs))
	}
	var differ []error
	for key, flag := range ours {
		want := any(flag.Enabled)
		if flag.Variant != nil {
			want = *flag.Variant
		}
		if theirs[key] != want {
			differ = append(differ, fmt.Errorf("%s is %v here and %v in posthog-go", key, want, theirs[key]))
		}
	}
	return errors.Join(differ...)
}

// timing is what one call of a function takes.
type timing struct{ micros, allocations series }

// add calls f for about the span and notes what a call took in its mean.
func (t *timing) add(f func(), span time.Duration) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began, start, calls := processTime(), time.Now(), 0
	for time.Since(start) < span {
		for range 100 {
			f()
		}
		calls += 100
	}
	took := processTime() - began // what others do to the machine meanwhile does not count; the garbage collector does
	runtime.ReadMemStats(&after)
	t.micros = append(t.micros, took.Seconds()*1e6/float64(calls))
	// A handful over millions of calls are those of the runtime.
	t.allocations = append(t.allocations, float64((after.Mallocs-before.Mallocs)/uint64(calls)))
}
