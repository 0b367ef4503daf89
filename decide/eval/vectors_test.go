package eval

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/internal/flagcache"
)

// The vectors in testdata are PostHog's, each file says where they come from.

func TestHashVectors(t *testing.T) {
	var file struct {
		Hashes   [][]any `json:"hashes"`
		Rollouts [][]any `json:"rollouts"`
		Variants []struct {
			Hash       float64   `json:"hash"`
			Shares     [][]any   `json:"shares"`
			Boundaries []float64 `json:"boundaries"`
			Value      any       `json:"value"`
		} `json:"variants"`
	}
	loadVectors(t, "hash.json", &file)
	s := &Scratch{}
	for _, v := range file.Hashes {
		prefix, id, salt := v[1].(string), DistinctID(v[2].(string)), v[3].(string)
		if got := s.hashAll(prefix, id, salt); got != v[4].(float64) {
			t.Errorf("%s: hash = %v, want %v", v[0], got, v[4])
		}
		if sum := sha1.Sum([]byte(prefix + id + salt)); hex.EncodeToString(sum[:]) != v[5].(string) {
			t.Errorf("%s: SHA-1 = %x, want %s", v[0], sum, v[5])
		}
	}
	ran(t, len(file.Hashes), 11, "hashes")
	for _, v := range file.Rollouts {
		c := condition{group: -1, rollout: v[1].(float64), threshold: v[1].(float64) / 100}
		b := bucket{s: s, personKnown: true, hashed: true, hashOf: -1, hash: v[0].(float64)}
		if got, _ := b.rollout(&c); got != truthOf(v[2].(bool)) {
			t.Errorf("rollout %v of hash %v: %v, want %v", v[1], v[0], got, v[2])
		}
	}
	ran(t, len(file.Rollouts), 14, "rollouts")
	for _, v := range file.Variants {
		filters := `{"groups":[],"multivariate":{"variants":[`
		for i, share := range v.Shares {
			if i > 0 {
				filters += ","
			}
			filters += fmt.Sprintf(`{"key":%q,"rollout_percentage":%v}`, share[0], share[1])
		}
		f := Compile(teamOf(flagOf(1, "f", filters+`]}}`)), Options{}).flags[0]
		var boundaries []float64
		for _, variant := range f.variants {
			boundaries = append(boundaries, variant.boundary)
		}
		if !slices.Equal(boundaries, v.Boundaries) {
			t.Errorf("boundaries of %v: %v, want %v", v.Shares, boundaries, v.Boundaries)
		}
		want, _ := json.Marshal(v.Value)
		if got := f.variantAt(v.Hash); string(got.value) != string(want) {
			t.Errorf("variant at %v of %v: %s, want %s", v.Hash, v.Shares, got.value, want)
		}
	}
	ran(t, len(file.Variants), 9, "variant choices")
}

func TestHashFloatVectors(t *testing.T) {
	var file struct {
		Floats [][]any `json:"floats"`
	}
	loadVectors(t, "hash_floats.json", &file)
	s := &Scratch{}
	for _, v := range file.Floats {
		if got := s.hashAll(v[0].(string), "", ""); got != v[1].(float64) {
			t.Errorf("hash of %q = %v, want %v", v[0], got, v[1])
		}
	}
	ran(t, len(file.Floats), 400, "hashes")
}

func TestConsistencyVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			Flag   json.RawMessage `json:"flag"`
			Values []string        `json:"values"`
			ByID   string          `json:"by_id"`
		} `json:"cases"`
	}
	loadVectors(t, "consistency.json", &file)
	for _, c := range file.Cases {
		p := Compile(teamOf(`{"id":1,`+string(c.Flag[1:])), Options{})
		s := &Scratch{}
		for i, digit := range c.ByID {
			in := &Input{DistinctID: "distinct_id_" + strconv.Itoa(i), Now: testNow}
			r := &p.Evaluate(in, s).Results[0]
			got := r.Variant
			if got == "" {
				got = strconv.FormatBool(r.Enabled)
			}
			if want := c.Values[digit-'0']; got != want {
				t.Errorf("%s of %s = %s, want %s", r.Flag.Key, in.DistinctID, got, want)
			}
		}
		ran(t, len(c.ByID), 1000, "people")
	}
	ran(t, len(file.Cases), 2, "flags")
}

func TestPropertyVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			Name     string          `json:"name"`
			Filter   json.RawMessage `json:"filter"`
			Given    json.RawMessage `json:"given"`
			Complete bool            `json:"complete"`
			Zone     string          `json:"zone"`
			Want     string          `json:"want"`
		} `json:"cases"`
	}
	loadVectors(t, "properties.json", &file)
	for _, v := range file.Cases {
		team := &flagcache.Team{Team: []byte(`{"timezone":"` + v.Zone + `"}`)}
		c := newCompiler(team, Options{})
		c.prepare(team)
		n, err := parseJSON(string(v.Filter))
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.compileFilter(nil, &n, -1)
		if err != nil {
			t.Errorf("%s: %v", v.Filter, err)
			continue
		}
		s := &Scratch{}
		s.begin(c.p, &Input{Person: propertiesOf(t, string(v.Given)), Now: testNow})
		got, _ := s.test(&f)
		if got == unknown && v.Complete {
			got = truthOf(f.matcher.absent())
		}
		want := v.Want
		if want == "error" { // for the service, an error of a filter is no match
			want = "false"
		}
		if got.String() != want {
			t.Errorf("%s: %s with %s = %v, want %s", v.Name, v.Filter, v.Given, got, v.Want)
		}
	}
	ran(t, len(file.Cases), 342, "property matches")
}

func TestRelativeDateVectors(t *testing.T) {
	var file struct {
		Valid    [][3]string `json:"valid"`
		ValidAny []string    `json:"valid_any"`
		Invalid  []string    `json:"invalid"`
	}
	loadVectors(t, "relative_dates.json", &file)
	for _, v := range file.Valid {
		now, _ := time.Parse(time.RFC3339Nano, v[0])
		want, _ := time.Parse(time.RFC3339Nano, v[2])
		if got, ok := (clock{now, time.UTC}).date(v[1]); !ok || !got.Equal(want) {
			t.Errorf("%s before %s = %v, %t, want %v", v[1], v[0], got, ok, want)
		}
	}
	for _, v := range file.ValidAny {
		if _, _, ok := relativeParts(v); !ok {
			t.Errorf("%q is a relative date", v)
		}
	}
	for _, v := range file.Invalid {
		if _, _, ok := relativeParts(v); ok {
			t.Errorf("%q is no relative date", v)
		}
	}
	ran(t, len(file.Valid)+len(file.ValidAny), 24+10, "relative dates")
	ran(t, len(file.Invalid), 14, "texts that are none")
}

func TestEvaluationVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			Name       string            `json:"name"`
			Flags      []json.RawMessage `json:"flags"`
			GroupTypes map[string]string `json:"group_types"`
			Request    request           `json:"request"`
			Want       map[string]struct {
				Value     any     `json:"value"`
				Payload   *string `json:"payload"`
				Reason    string  `json:"reason"`
				Condition *int    `json:"condition"`
			} `json:"want"`
			Omitted []string `json:"omitted"`
		} `json:"cases"`
	}
	loadVectors(t, "evaluation.json", &file)
	for _, c := range file.Cases {
		team := teamOf()
		for _, flag := range c.Flags {
			team.Flags = append(team.Flags, flagcache.Record{JSON: flag})
		}
		for _, name := range c.GroupTypes {
			team.GroupTypes = groupTypes(name)
		}
		d := Compile(team, Options{}).Evaluate(c.Request.input(t), &Scratch{})
		if d.Errors || len(d.Results) != len(c.Want) {
			t.Errorf("%s: errors %t, %d results, want %d", c.Name, d.Errors, len(d.Results), len(c.Want))
		}
		for i := range d.Results {
			r := &d.Results[i]
			want, ok := c.Want[r.Flag.Key]
			if !ok || slices.Contains(c.Omitted, r.Flag.Key) {
				t.Errorf("%s: unexpected flag %s", c.Name, r.Flag.Key)
				continue
			}
			value, _ := json.Marshal(want.Value)
			line := string(value) + " " + want.Reason
			if want.Condition != nil {
				line += "/" + strconv.Itoa(*want.Condition)
			}
			payload := []byte("")
			if want.Payload != nil {
				payload, _ = json.Marshal(*want.Payload)
			}
			if got := outcomeOf(r); got != line || string(r.Payload) != string(payload) {
				t.Errorf("%s, %s: %s, payload %s; want %s, payload %s", c.Name, r.Flag.Key, got, r.Payload, line, payload)
			}
		}
	}
	ran(t, len(file.Cases), 31, "evaluations")
}

func TestRuntimeAndContextVectors(t *testing.T) {
	var file struct {
		Runtimes []struct {
			Key     string  `json:"key"`
			Runtime *string `json:"evaluation_runtime"`
		} `json:"runtimes"`
		Kept     [][2]any `json:"kept"`
		Contexts [][3]any `json:"contexts"`
	}
	loadVectors(t, "filters.json", &file)
	team := teamOf()
	for i, flag := range file.Runtimes {
		runtime, _ := json.Marshal(flag.Runtime)
		row := fmt.Sprintf(`{"id":%d,"key":%q,"active":true,"filters":{},"evaluation_runtime":%s}`, i+1, flag.Key, runtime)
		team.Flags = append(team.Flags, flagcache.Record{JSON: []byte(row)})
	}
	p := Compile(team, Options{})
	names := map[string]Runtime{"null": RuntimeUnknown, "client": RuntimeClient, "server": RuntimeServer, "all": RuntimeAll}
	for _, v := range file.Kept {
		d := p.Evaluate(&Input{Runtime: names[v[0].(string)], Now: testNow}, &Scratch{})
		kept := []any{}
		for _, r := range d.Results {
			kept = append(kept, r.Flag.Key)
		}
		if diff := cmp.Diff(v[1], any(kept)); diff != "" {
			t.Errorf("runtime %s (-want +got):\n%s", v[0], diff)
		}
	}
	ran(t, len(file.Kept)*len(file.Runtimes), 20, "runtimes by flag")
	for _, v := range file.Contexts {
		team := teamOf(flagOf(1, "f", `{"groups":[]}`))
		of, _ := v[0].([]any)
		for i, name := range of {
			id := strconv.Itoa(i)
			team.Contexts = append(team.Contexts, flagcache.Record{Key: id, JSON: fmt.Appendf(nil, `{"id":%q,"name":%q}`, id, name)})
			team.FlagContexts = append(team.FlagContexts, flagcache.Record{JSON: fmt.Appendf(nil, `{"feature_flag_id":1,"evaluation_context_id":%q}`, id)})
		}
		in := &Input{Now: testNow}
		asked, _ := v[1].([]any)
		for _, name := range asked {
			in.Contexts = append(in.Contexts, name.(string))
		}
		if kept := len(Compile(team, Options{}).Evaluate(in, &Scratch{}).Results) == 1; kept != v[2].(bool) {
			t.Errorf("flag with contexts %v, request for %v: kept %t", v[0], v[1], kept)
		}
	}
	ran(t, len(file.Contexts), 6, "contexts")
}

func TestRowVectors(t *testing.T) { // S26, S32
	var file struct {
		Rows []json.RawMessage `json:"rows"`
	}
	loadVectors(t, "rows.json", &file)
	team := teamOf()
	for _, row := range file.Rows {
		team.Flags = append(team.Flags, flagcache.Record{JSON: row})
	}
	p := Compile(team, Options{})
	d := p.Evaluate(&Input{DistinctID: "someone", Now: testNow}, &Scratch{})
	got := outcomesOf(d)
	for _, raw := range file.Rows {
		var row struct {
			Key    string `json:"key"`
			Active bool   `json:"active"`
			Want   string `json:"want"`
		}
		if err := json.Unmarshal(raw, &row); err != nil {
			t.Fatal(err)
		}
		outcome, shown := got[row.Key]
		failed := outcome == "failed data_parsing_error"
		ok := false
		switch row.Want {
		case "kept":
			ok = shown == row.Active && !failed
		case "omitted":
			ok = !shown
		case "unsupported":
			ok = failed == row.Active && shown == row.Active && p.byKey[row.Key].refused
		case "dependent":
			ok = failed
		case "missing_dependency":
			ok = outcome == "false missing_dependency"
		}
		if !ok {
			t.Errorf("%s: %q, want %s", row.Key, outcome, row.Want)
		}
	}
	ran(t, len(file.Rows), 33, "rows")
}
