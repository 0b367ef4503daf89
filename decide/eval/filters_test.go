package eval

import "testing"

// Filters that ask the same are tested once per evaluation, and anew in the next one.
func TestEqualFiltersShareTheirTest(t *testing.T) {
	filters := func(operator, value string) string {
		return `{"groups":[{"properties":[{"key":"plan","type":"person","operator":"` + operator + `","value":` + value + `}]}]}`
	}
	p := Compile(teamOf(
		flagOf(1, "a", filters("exact", `"pro"`)),
		flagOf(2, "b", filters("exact", `"pro"`)),
		flagOf(3, "c", filters("is_not", `"pro"`)),
		flagOf(4, "d", filters("exact", `["pro"]`)),
	), Options{})
	if p.tests != 3 {
		t.Errorf("%d tests, want 3", p.tests)
	}
	s := &Scratch{}
	for _, c := range []struct {
		person string
		want   [4]truth
	}{
		{`{"plan":"pro"}`, [4]truth{yes, yes, no, yes}},
		{`{"plan":"free"}`, [4]truth{no, no, yes, no}},
		{`{}`, [4]truth{unknown, unknown, unknown, unknown}},
		{`{"plan":"pro"}`, [4]truth{yes, yes, no, yes}},
	} {
		d := p.Evaluate(inputOf(t, `{"distinct_id":"x","person_properties":`+c.person+`}`), s)
		for i, r := range d.Results {
			got := truthOf(r.Enabled)
			if r.Failed {
				got = unknown
			}
			if got != c.want[i] {
				t.Errorf("%s: flag %s is %v, want %v", c.person, r.Flag.Key, got, c.want[i])
			}
		}
	}
}
