package eval

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/flagcache"
)

// matchOf is the outcome of a filter on a property, both as JSON; the property is absent if given is empty.
func matchOf(t testing.TB, team *flagcache.Team, operator, value, given string) truth {
	t.Helper()
	c := newCompiler(team, Options{})
	c.prepare(team)
	n, err := parseJSON(fmt.Sprintf(`{"key":"k","type":"person","operator":%q,"value":%s}`, operator, value))
	if err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	f, err := c.compileFilter(nil, &n, -1)
	if err != nil {
		t.Fatalf("%s %s: %v", operator, value, err)
	}
	s := &Scratch{}
	in := &Input{Now: testNow}
	if given != "" {
		in.Person = propertiesOf(t, `{"k":`+given+`}`)
	}
	s.begin(c.p, in)
	got, _ := s.test(&f)
	return got
}

func TestOperators(t *testing.T) {
	legacy := &flagcache.Team{}
	explicit := &flagcache.Team{Config: []byte(`{"property_matching_version":2}`)}
	for _, c := range []struct {
		operator, value, given string
		want, wantExplicit     truth
	}{
		// The boolean rule, and what version 2 makes of it.
		{"exact", `"false"`, `"banana"`, yes, no},
		{"exact", `"false"`, `0`, yes, no},
		{"exact", `false`, `null`, yes, no},
		{"exact", `false`, `"FALSE"`, yes, yes},
		{"exact", `false`, `false`, yes, yes},
		{"exact", `true`, `"True"`, yes, yes},
		{"exact", `["true"]`, `[true,"TRUE"]`, yes, no},
		{"exact", `["true","false"]`, `"pro"`, yes, no},
		{"exact", `["true","false"]`, `"true"`, no, yes},
		{"exact", `[]`, `true`, yes, yes},
		{"exact", `[]`, `[]`, yes, yes},
		{"exact", `[]`, `"x"`, no, no},
		{"is_not", `"false"`, `"banana"`, no, yes},
		// Text of values.
		{"exact", `"1"`, `1`, yes, yes},
		{"exact", `"1"`, `1.0`, no, no},
		{"exact", `1.50`, `"1.5"`, yes, yes},
		{"exact", `12345678901234567890123`, `"12345678901234567890123"`, yes, yes},
		{"exact", `"null"`, `null`, yes, yes},
		{"exact", `"[1,\"a\"]"`, `[1, "a"]`, yes, yes},
		{"exact", `{"b":1,"a":[]}`, `{"a": [], "b": 1}`, yes, yes},
		{"exact", `"ÄÖÜ"`, `"äöü"`, yes, yes},
		{"exact", `"İ"`, `"i̇"`, yes, yes},
		{"exact", `"ΟΔΟΣ"`, `"οδος"`, yes, yes},
		{"exact", `"ΣΑΣ"`, `"σασ"`, no, no}, // the last one is a final sigma
		// ASCII only.
		{"icontains", `"ÄB"`, `"äb"`, no, no},
		{"icontains", `"Äb"`, `"xÄB"`, yes, yes},
		{"icontains", `["a"]`, `"[\"A\"]"`, yes, yes},
		{"icontains_multi", `["x","A"]`, `"ba"`, yes, yes},
		{"not_icontains_multi", `[]`, `"ba"`, yes, yes},
		{"starts_with", `""`, `"x"`, yes, yes},
		{"not_ends_with", `"X"`, `"ax"`, no, no},
		// Numbers.
		{"gt", `"1e3"`, `"1001"`, yes, yes},
		{"gt", `1`, `"inf"`, yes, yes},
		{"lt", `1`, `"-Infinity"`, yes, yes},
		{"gt", `1`, `" 2"`, no, no},
		{"gt", `1`, `"0x10"`, no, no},
		{"gt", `1`, `"1_0"`, no, no},
		{"gt", `1`, `""`, no, no},
		{"gt", `1`, `true`, no, no},
		{"gt", `"x"`, `2`, no, no},
		{"lte", `1`, `"nan"`, no, no},
		{"gt", `1`, `"-nan"`, no, no},
		{"gt", `"1e400"`, `"1e400"`, no, no},
		{"gte", `"1e400"`, `"1e400"`, yes, yes},
		{"not_between", `[1,2]`, `"nan"`, no, no},
		{"not_between", `[1,2]`, `"x"`, no, no},
		{"not_between", `[2,1]`, `5`, no, no},
		// An operator that is not for properties, and a value that is not there.
		{"in", `1`, `1`, no, no},
		{"flag_evaluates_to", `true`, `true`, no, no},
		{"is_set", `null`, `null`, yes, yes},
		{"is_not_set", `null`, `null`, no, no},
		{"is_not", `"x"`, ``, unknown, unknown},
	} {
		if got := matchOf(t, legacy, c.operator, c.value, c.given); got != c.want {
			t.Errorf("%s %s with %s = %v, want %v", c.operator, c.value, c.given, got, c.want)
		}
		if got := matchOf(t, explicit, c.operator, c.value, c.given); got != c.wantExplicit {
			t.Errorf("version 2: %s %s with %s = %v, want %v", c.operator, c.value, c.given, got, c.wantExplicit)
		}
	}
}

func TestManyValues(t *testing.T) {
	var list []string
	for i := range 100 {
		list = append(list, fmt.Sprintf("%q", fmt.Sprintf("Value %d", i)))
	}
	value := "[" + strings.Join(list, ",") + "]"
	for given, want := range map[string]truth{`"vALUE 77"`: yes, `"value 100"`: no} {
		if got := matchOf(t, &flagcache.Team{}, "exact", value, given); got != want {
			t.Errorf("%s: %v, want %v", given, got, want)
		}
	}
}

func TestRegex(t *testing.T) { // S28
	for _, c := range []struct {
		operator, pattern, given string
		want                     truth
	}{
		{"regex", `^a.c$`, `"abc"`, yes},
		{"regex", `A`, `"a"`, no},
		{"regex", `(?i)A`, `"a"`, yes},
		{"regex", `?*`, `"?*"`, no},
		{"not_regex", `?*`, `"x"`, no}, // invalid: neither matches
		{"not_regex", `[`, `"x"`, no},
		{"regex", `\Qa.c\E`, `"a.c"`, no}, // the service's engine has no quoting
		{"regex", `a$`, `"a\n"`, no},
		{"regex", `(?=a)a$`, `"a\n"`, no},
		{"regex", `(?m)(?=a)a$`, `"a\nb"`, yes},
		{"regex", `(?=.)[$]$`, `"$"`, yes},
		{"regex", `(?=.)\$$`, `"$"`, yes},
		{"regex", `^\w+$`, `"größe"`, yes}, // Unicode classes
		{"regex", `^\d$`, `"٣"`, yes},
		{"regex", `^\s$`, `"\u000b"`, yes},
		{"regex", `^\w+$`, `"a-b"`, no},
		{"not_regex", `(?<!x)y`, `"xy"`, yes},
		{"regex", `4`, `4.25`, yes},
		{"regex", `^(a+)+\1$`, `"` + strings.Repeat("a", 40) + `!"`, no},
		{"not_regex", `^(a+)+\1$`, `"` + strings.Repeat("a", 40) + `!"`, no}, // the limit is an error: no match
		{"regex", strings.Repeat("a", maxPattern+1), `"a"`, no},
		{"regex", `^[a-z&&[^b]]$`, `"b"`, unknown}, // means something else to the engines here
		{"not_regex", `[a--b]`, `"b"`, unknown},
		{"regex", `[^[]`, `"b"`, unknown},
		{"regex", `[[:alpha:]\[&-]`, `"["`, yes},
		{"regex", `[^]a]&&--`, `"b&&--"`, yes},
		{"regex", `[`, `"["`, no},
	} {
		if got := matchOf(t, &flagcache.Team{}, c.operator, string(appendQuoted(nil, c.pattern)), c.given); got != c.want {
			t.Errorf("%s %s with %s = %v, want %v", c.operator, c.pattern, c.given, got, c.want)
		}
	}
}

func TestCatastrophicRegexAndMegabyteProperty(t *testing.T) { // S28, S29
	var rows []string
	for i, pattern := range []string{`^(a+)+\\1$`, `^(a+)+$`, `(?=a)(a|a)*b`, `^(\\w+\\s?)*$`} {
		rows = append(rows, flagOf(i+1, fmt.Sprintf("f%d", i), `{"groups":[{"properties":[{"key":"k","operator":"regex","value":"`+pattern+`"}]}]}`))
	}
	rows = append(rows, flagOf(9, "good", `{"groups":[{"properties":[{"key":"k","operator":"icontains","value":"B"}]},{}]}`))
	p := Compile(teamOf(rows...), Options{})
	for _, text := range []string{strings.Repeat("a", 5000) + "!", strings.Repeat("Aa ", 350_000) + "é!"} {
		in := &Input{DistinctID: "x", Person: []Property{{"k", Value{String, text}}}, Now: testNow}
		s := &Scratch{}
		start := time.Now()
		d := p.Evaluate(in, s)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%d bytes took %v", len(text), took)
		}
		got := outcomesOf(d)
		if len(got) != 5 || got["good"] != "true condition_match/1" || got["f0"] != "false no_condition_match/0" {
			t.Errorf("%d bytes: %v", len(text), got)
		}
		if d.RegexLimits == 0 {
			t.Errorf("%d bytes: no limit was counted", len(text))
		}
		if p.Evaluate(&Input{Now: testNow}, s); cap(s.text) > maxKeptText {
			t.Errorf("%d bytes of a property are kept", cap(s.text))
		}
	}
}

func TestSyntheticProperties(t *testing.T) {
	for _, c := range []struct{ key, value, request, want string }{
		{"distinct_id", `"d"`, `{"distinct_id":"d"}`, "true"},
		{"distinct_id", `"e"`, `{"distinct_id":"d","person_properties":{"distinct_id":"e"}}`, "true"},
		{"$os", `"ios"`, `{"distinct_id":"d","person_properties":{"$os_name":"iOS"}}`, "true"},
		{"$os_name", `"ios"`, `{"distinct_id":"d","person_properties":{"$os":"iOS"}}`, "true"},
		{"$os", `"ios"`, `{"distinct_id":"d","person_properties":{"$os_name":"iOS","$os":"x"}}`, "false"},
		{"$initial_browser", `"chrome"`, `{"distinct_id":"d","person_properties":{"$browser":"Chrome"}}`, "true"},
		{"$initial_browser", `"chrome"`, `{"distinct_id":"d","person_properties":{"$browser":"Chrome","$initial_browser":"x"}}`, "false"},
		{"$initial_utm_source", `"a"`, `{"distinct_id":"d","person_properties":{"utm_source":"a"}}`, "true"},
		{"$initial__kx", `"a"`, `{"distinct_id":"d","person_properties":{"_kx":"a"}}`, "true"},
		{"$initial_os", `"a"`, `{"distinct_id":"d","person_properties":{"$os_name":"a"}}`, "true"},
		{"$initial_plan", `"a"`, `{"distinct_id":"d","person_properties":{"plan":"a"}}`, "failed"},
		{"k", `"b"`, `{"distinct_id":"d","person_properties":{"k":"a","k":"b"}}`, "true"},
	} {
		p := Compile(teamOf(flagOf(1, "f", fmt.Sprintf(`{"groups":[{"properties":[{"key":%q,"value":%s}]}]}`, c.key, c.value))), Options{})
		if got := outcomes(t, p, c.request)["f"]; !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s with %s: %s, want %s", c.key, c.value, c.request, got, c.want)
		}
	}
}

func TestGeoIPFillsGaps(t *testing.T) {
	p := Compile(teamOf(flagOf(1, "f", `{"groups":[{"properties":[{"key":"$geoip_country_code","value":"DE"}]}]}`)), Options{})
	for _, c := range []struct{ properties, want string }{
		{`{}`, "true condition_match/0"},
		{`{"$geoip_country_code":null}`, "true condition_match/0"},
		{`{"$geoip_country_code":"FR"}`, "false no_condition_match/0"},
	} {
		in := inputOf(t, `{"distinct_id":"a","person_properties":`+c.properties+`}`)
		in.GeoIP = []Property{{"$geoip_country_code", Value{String, "DE"}}}
		if got := outcomesOf(p.Evaluate(in, &Scratch{}))["f"]; got != c.want {
			t.Errorf("%s: %s, want %s", c.properties, got, c.want)
		}
	}
}

func TestDistinctID(t *testing.T) { // S34
	for text, want := range map[string]int{
		"": 0, strings.Repeat("a", 200): 200, strings.Repeat("a", 201): 200, strings.Repeat("é", 200): 400, strings.Repeat("é", 201): 400,
		strings.Repeat("é", 120): 240, strings.Repeat("a", 199) + "😀b": 203, strings.Repeat("\xff", 300): 200,
	} {
		if got := DistinctID(text); len(got) != want || !strings.HasPrefix(text, got) {
			t.Errorf("DistinctID of %d bytes has %d, want %d", len(text), len(got), want)
		}
	}
}

func TestNumberText(t *testing.T) {
	for literal, want := range map[string]string{
		"1": "1", "-0": "-0", "1.0": "1.0", "1.50": "1.5", "1e3": "1000.0", "1E16": "1e16", "1.5e300": "1.5e300", "1e-5": "0.00001", "1.5e-7": "1.5e-7",
		"123456789012345678901234": "123456789012345678901234", "0.1": "0.1", "-1.25": "-1.25", "1e999": "1e999",
	} {
		if got := NumberText(literal); got != want {
			t.Errorf("NumberText(%s) = %s, want %s", literal, got, want)
		}
	}
}

func TestRequirements(t *testing.T) {
	for _, c := range []struct {
		op, text, version string
		want              bool
	}{
		{"*", "1.2.3", "1.9.0", true},
		{"*", "1.2.3", "2.0.0", false},
		{"*", ">=1.2, <2", "1.5.0", true},
		{"*", ">=1.2, <2", "2.1.0", false},
		{"*", "=1.2", "1.2.9", true},
		{"*", ">1.2", "1.2.9", false},
		{"*", ">1.2", "1.3.0", true},
		{"*", "<=1", "1.9.9", true},
		{"*", "<1.2.3", "1.2.2", true},
		{"*", "*", "1.0.0-rc.1", false},
		{"*", "1.*", "1.0.0-rc.1", false},
		{"~", "1", "1.0.9", true},
		{"~", "1", "1.1.0", false},
		{"^", "0.2.3", "0.2.9", true},
		{"^", "0.2.3", "0.3.0", false},
		{"^", "0.0.3", "0.0.4", false},
		{"^", "0.0.3", "0.0.3", true},
		{"^", "1.2.3-beta.1", "1.2.3-beta.2", true},
		{"^", "1.2.3-beta.1", "1.2.4-beta.2", false},
		{"^", "1.2.3-beta.2", "1.2.3-beta.1", false},
		{"~", " v1.2.3", "1.2.3", false},
	} {
		req, ok := parseRange(c.op, c.text)
		v, okVersion := parseVersion(c.version)
		if got := ok && okVersion && req.matches(v); got != c.want {
			t.Errorf("%s %s with %s = %t, want %t", c.op, c.text, c.version, got, c.want)
		}
	}
	for _, bad := range []string{"", "x.1", "1.x.3", "1.2.3.4", "1.2-beta", "1.x-beta", "01.2,", "a", strings.Repeat("1,", 40) + "1"} {
		if req, ok := parseRequirement(bad); ok {
			t.Errorf("parseRequirement(%q) = %+v, want none", bad, req)
		}
	}
}

func TestVersionOrder(t *testing.T) {
	ascending := []string{
		"0.9.9", "1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0", "1.0.0+0", "1.0.0+00",
		"1.0.0+1", "1.0.0+a", "1.0.1", "18446744073709551615.0.0",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			v, ok := parseVersion(a)
			w, okToo := parseVersion(b)
			if got := v.compare(w); !ok || !okToo || got != compareInt(i, j) {
				t.Errorf("%s against %s = %d, %t, %t", a, b, got, ok, okToo)
			}
		}
	}
	for _, bad := range []string{"", "v", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0-a..b", "1.0.0-ä", "18446744073709551616", "V1", "1.2.3-a+", "1,2"} {
		if v, ok := parseVersion(bad); ok {
			t.Errorf("parseVersion(%q) = %+v", bad, v)
		}
	}
}

func compareInt(a, b int) int {
	return min(max(a-b, -1), 1)
}
