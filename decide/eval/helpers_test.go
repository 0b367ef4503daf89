package eval

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/flagcache"
)

// testNow is the moment of requests in tests that do not care.
var testNow = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// loadVectors reads a file of testdata and reports a shrunken one.
func loadVectors(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// ran logs how many vectors a test ran and fails if there should have been more.
func ran(t *testing.T, got, want int, what string) {
	t.Helper()
	t.Logf("%d %s", got, what)
	if got < want {
		t.Errorf("only %d of %d %s ran", got, want, what)
	}
}

// teamOf is a team with the rows; each is the JSON of a flag.
func teamOf(flags ...string) *flagcache.Team {
	team := &flagcache.Team{ID: 1, Version: "v", Team: []byte(`{"id":1,"api_token":"phc_test","timezone":"UTC"}`)}
	for i, flag := range flags {
		team.Flags = append(team.Flags, flagcache.Record{Key: strconv.Itoa(i + 1), JSON: []byte(flag)})
	}
	return team
}

// flagOf is the row of an active flag.
func flagOf(id int, key, filters string) string {
	return fmt.Sprintf(`{"id":%d,"key":%q,"active":true,"deleted":false,"version":1,"filters":%s}`, id, key, filters)
}

func cohortOf(id int, members string) flagcache.Record {
	return flagcache.Record{Key: strconv.Itoa(id), JSON: fmt.Appendf(nil, `{"id":%d,"deleted":false,"is_static":false,"groups":[],%s}`, id, members)}
}

func groupTypes(names ...string) []flagcache.Record {
	var records []flagcache.Record
	for i, name := range names {
		records = append(records, flagcache.Record{
			Key: strconv.Itoa(i + 1), JSON: fmt.Appendf(nil, `{"id":%d,"group_type":%q,"group_type_index":%d}`, i+1, name, i),
		})
	}
	return records
}

// propertiesOf are the members of a JSON object, in order.
func propertiesOf(t testing.TB, object string) []Property {
	t.Helper()
	if object == "" {
		return nil
	}
	n, err := parseJSON(object)
	if err != nil || n.Kind != Object && n.Kind != Null {
		t.Fatalf("properties %s: %v", object, err)
	}
	var list []Property
	for i, name := range n.names {
		list = append(list, Property{name, valueOf(&n.items[i])})
	}
	return list
}

func valueOf(n *node) Value {
	if n.Kind == Array || n.Kind == Object {
		return Value{n.Kind, string(appendCompact(nil, n))}
	}
	return n.Value
}

// request is a request in the words of the API.
type request struct {
	DistinctID      string                     `json:"distinct_id"`
	Anon            string                     `json:"$anon_distinct_id"`
	Device          string                     `json:"device_id"`
	Person          json.RawMessage            `json:"person_properties"`
	Groups          map[string]json.RawMessage `json:"groups"`
	GroupProperties map[string]json.RawMessage `json:"group_properties"`
}

func (r *request) input(t testing.TB) *Input {
	t.Helper()
	in := &Input{
		DistinctID: DistinctID(r.DistinctID), AnonDistinctID: r.Anon, DeviceID: r.Device, Person: propertiesOf(t, string(r.Person)), Now: testNow,
	}
	for _, name := range sortedKeys(r.Groups) {
		n, err := parseJSON(string(r.Groups[name]))
		if err != nil {
			t.Fatal(err)
		}
		in.Groups = append(in.Groups, Group{
			Type: name, Key: scalarText(n.Value), Usable: n.Kind == Number || n.Kind == String && n.Text != "",
			Properties: propertiesOf(t, string(r.GroupProperties[name])),
		})
	}
	for _, name := range sortedKeys(r.GroupProperties) {
		if _, named := r.Groups[name]; !named {
			in.Groups = append(in.Groups, Group{Type: name, Properties: propertiesOf(t, string(r.GroupProperties[name]))})
		}
	}
	return in
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// inputOf is a request from the JSON of its body.
func inputOf(t testing.TB, body string) *Input {
	t.Helper()
	var r request
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatal(err)
	}
	return r.input(t)
}

// outcomeOf is a result in one line: value reason/condition.
func outcomeOf(r *Result) string {
	value := string(r.value)
	reason := r.Reason.String()
	if r.Failed {
		value, reason = "failed", r.ErrorCode()
	}
	if r.Condition < 0 {
		return value + " " + reason
	}
	return value + " " + reason + "/" + strconv.Itoa(r.Condition)
}

// outcomes are the results of a request by flag key.
func outcomes(t testing.TB, p *Program, body string) map[string]string {
	t.Helper()
	return outcomesOf(p.Evaluate(inputOf(t, body), &Scratch{}))
}

func outcomesOf(d *Decision) map[string]string {
	m := map[string]string{}
	for i := range d.Results {
		m[d.Results[i].Flag.Key] = outcomeOf(&d.Results[i])
	}
	return m
}
