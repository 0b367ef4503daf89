package eval

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// projection is an outcome of testdata/projections.json.
type projection struct {
	Key     string  `json:"key"`
	ID      int64   `json:"flag_id"`
	Version int64   `json:"flag_version"`
	Enabled bool    `json:"enabled"`
	Variant *string `json:"variant"`
	Payload *string `json:"payload"`
	Failed  bool    `json:"failed"`
	Omitted bool    `json:"omitted"`
	Reason  struct {
		Code      string `json:"code"`
		Condition *int   `json:"condition_index"`
	} `json:"reason"`
}

// decision is a decision with that outcome.
func (o *projection) decision() *Decision {
	if o.Omitted {
		return &Decision{}
	}
	f := &Flag{ID: o.ID, Key: o.Key, Version: o.Version}
	a := newAnswers(f)
	r := Result{Flag: f, Condition: -1, Failed: o.Failed}
	name := "true"
	if o.Variant != nil {
		name = *o.Variant
	}
	if o.Payload != nil {
		payload, _ := json.Marshal(*o.Payload)
		a.payloads = &node{Value: Value{Kind: Object}, names: []string{name}, items: []node{{Value: Value{Kind: String}, raw: string(payload)}}}
	}
	switch {
	case o.Failed:
		r.Answer, r.fault, r.Reason = a.plain(false, ""), faultProperty, Failure
	case o.Variant != nil:
		r.Answer = a.variant(name)
	default:
		r.Answer = a.plain(o.Enabled, map[bool]string{true: name}[o.Enabled])
	}
	for reason, text := range reasonTexts {
		if text.code == o.Reason.Code && Reason(reason) != NoConditionMatchGroups {
			r.Reason = Reason(reason)
		}
	}
	if o.Reason.Condition != nil {
		r.Condition = *o.Reason.Condition
	}
	return &Decision{Results: []Result{r}, Errors: o.Failed}
}

func TestProjectionVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			Name     string         `json:"name"`
			Outcome  projection     `json:"outcome"`
			FlagsV2  map[string]any `json:"flags_v2"`
			FlagsV1  map[string]any `json:"flags_v1"`
			DecideV2 any            `json:"decide_v2"`
			DecideV1 any            `json:"decide_v1"`
		} `json:"cases"`
	}
	loadVectors(t, "projections.json", &file)
	decode := func(encoded []byte) (v any) {
		if err := json.Unmarshal(encoded, &v); err != nil {
			t.Errorf("%s: %v", encoded, err)
		}
		return v
	}
	for _, c := range file.Cases {
		d := c.Outcome.decision()
		v2 := decode(d.AppendFlagsV2(nil))
		for _, flag := range v2.(map[string]any) { // the vectors leave out what they are not about
			delete(flag.(map[string]any)["reason"].(map[string]any), "description")
			delete(flag.(map[string]any)["metadata"].(map[string]any), "description")
			delete(flag.(map[string]any)["metadata"].(map[string]any), "has_experiment")
			if c.Outcome.Failed { // the code of the vector is one that cannot happen here
				flag.(map[string]any)["reason"].(map[string]any)["code"] = c.Outcome.Reason.Code
			}
		}
		v1 := c.FlagsV1["featureFlags"]
		if c.Outcome.Failed { // G8: left out instead of false
			delete(v1.(map[string]any), c.Outcome.Key)
		}
		for _, pair := range [][2]any{
			{v2, c.FlagsV2["flags"]},
			{d.Errors, c.FlagsV2["errorsWhileComputingFlags"]},
			{decode(d.AppendFeatureFlags(nil)), v1},
			{decode(d.AppendPayloads(nil)), c.FlagsV1["featureFlagPayloads"]},
			{decode(d.AppendEnabledMap(nil)), c.DecideV2},
			{decode(d.AppendEnabledList(nil)), c.DecideV1},
		} {
			if diff := cmp.Diff(pair[1], pair[0]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.Name, diff)
			}
		}
	}
	ran(t, 4*len(file.Cases), 4*11, "projections")
}
