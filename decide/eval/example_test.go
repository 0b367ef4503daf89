package eval_test

import (
	"fmt"
	"time"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

func ExampleProgram_Evaluate() {
	program := eval.Compile(&flagcache.Team{
		ID:      1,
		Version: "0001790000000123:00000016B374D848",
		Flags: []flagcache.Record{{Key: "7", JSON: []byte(`{"id":7,"key":"new-checkout","active":true,"version":3,
			"filters":{"groups":[{"properties":[{"key":"plan","type":"person","value":"pro"}]}]}}`)}},
	}, eval.Options{})

	var scratch eval.Scratch // one per goroutine, used again and again
	for _, plan := range []string{"pro", "free"} {
		decision := program.Evaluate(&eval.Input{
			DistinctID: "user-1",
			Person:     []eval.Property{{Key: "plan", Value: eval.Value{Kind: eval.String, Text: plan}}},
			Now:        time.Now(),
		}, &scratch)
		fmt.Println(string(decision.AppendFeatureFlags(nil)), decision.Errors)
	}

	// Without the property the flag cannot be decided: PostHog's database may know it.
	decision := program.Evaluate(&eval.Input{DistinctID: "user-1", Now: time.Now()}, &scratch)
	fmt.Println(string(decision.AppendFeatureFlags(nil)), decision.Errors, decision.Results[0].ErrorCode())
	// Output:
	// {"new-checkout":true} false
	// {"new-checkout":false} false
	// {} true database_unavailable
}
