package decide

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everflag/everflag/decide/eval"
)

// protocol is testdata/protocol.json.
type protocol struct {
	Provenance string `json:"provenance"`
	Bodies     []struct {
		Name    string            `json:"name"`
		Query   string            `json:"query"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
		Base64  string            `json:"base64"`
		Want    map[string]any    `json:"want"`
		Status  int               `json:"status"`
	} `json:"bodies"`
	Addresses []struct {
		Forwarded *string `json:"forwarded"`
		Peer      string  `json:"peer"`
		Want      string  `json:"want"`
	} `json:"addresses"`
	Formats []struct {
		Path   string `json:"path"`
		Query  string `json:"query"`
		Format string `json:"format"`
		Config bool   `json:"config"`
	} `json:"formats"`
	Errors []struct {
		Case   string          `json:"case"`
		Status int             `json:"status"`
		Body   json.RawMessage `json:"body"`
	} `json:"errors"`
	ETags []struct {
		Header *string `json:"header"`
		Want   *string `json:"want"`
	} `json:"etags"`
}

func readProtocol(t *testing.T) protocol {
	t.Helper()
	var p protocol
	readTestdata(t, "protocol.json", &p)
	return p
}

// decodedMembers is what a request was decoded to, in the vectors' terms.
func decodedMembers(r *request) map[string]any {
	got := map[string]any{"token": r.token, "distinct_id": r.input.DistinctID}
	if len(r.input.Person) > 0 {
		properties := map[string]any{}
		for _, p := range r.input.Person {
			var v any
			switch p.Value.Kind {
			case eval.Number:
				_ = json.Unmarshal([]byte(p.Value.Text), &v)
			case eval.String:
				v = p.Value.Text
			}
			properties[p.Key] = v
		}
		got["person_properties"] = properties
	}
	return got
}

func TestProtocolBodies(t *testing.T) { // S35
	cases := readProtocol(t).Bodies
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			text := c.Body
			if c.Base64 != "" {
				decoded, err := base64.StdEncoding.DecodeString(c.Base64)
				if err != nil {
					t.Fatal(err)
				}
				text = string(decoded)
			}
			r := httptest.NewRequest(http.MethodPost, "/flags/?"+c.Query, strings.NewReader(text))
			for name, value := range c.Headers {
				r.Header.Set(name, value)
			}
			x := exchange{body: body{room: newRoom(nil)}}
			x.begin(httptest.NewRecorder(), r, endpointFlags, eval.RulesCurrent)
			err := x.body.read(r)
			if err == nil {
				err = x.body.decodeInto(&x.request, r, x.query.compression, false)
			}
			if c.Status != 0 {
				if e := currentErrors.bodyError(err); err == nil || e.status != c.Status {
					t.Fatalf("got error %v, want status %d", err, c.Status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.Want, decodedMembers(&x.request)); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
	t.Logf("%d cases", len(cases))
}

// The rows of upstream take the leftmost hop; ours is the rightmost that is not trusted, which is the same if the hops in between are.
func TestProtocolAddresses(t *testing.T) {
	cases := readProtocol(t).Addresses
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}
	for _, c := range cases {
		r := httptest.NewRequest(http.MethodPost, "/flags/", nil)
		r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(c.Peer), 4711).String()
		if c.Forwarded != nil {
			r.Header.Set("X-Forwarded-For", *c.Forwarded)
		}
		if got := clientAddr(r, trusted).String(); got != c.Want {
			t.Errorf("forwarded %v from %s: got %s, want %s", r.Header["X-Forwarded-For"], c.Peer, got, c.Want)
		}
	}
	t.Logf("%d cases", len(cases))
}

func TestProtocolFormats(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	cases := readProtocol(t).Formats
	for _, c := range cases {
		w := call(h, http.MethodPost, c.Path+"?"+c.Query, `{"token":"phc_test","distinct_id":"u"}`)
		got := jsonOf(t, w)
		format := map[string]string{"[]interface {}": "decide_v1", "": "flags_v2"}[typeName(got["featureFlags"])]
		if _, ok := got["featureFlags"].(map[string]any); ok {
			format = "decide_v2"
			if _, full := got["featureFlagPayloads"]; full {
				format = "flags_v1"
			}
		}
		_, config := got["supportedCompression"]
		if format != c.Format || config != c.Config {
			t.Errorf("%s?%s: got %s (config %v), want %s (config %v)", c.Path, c.Query, format, config, c.Format, c.Config)
		}
	}
	t.Logf("%d cases", len(cases))
}

func typeName(v any) string {
	switch v.(type) {
	case []any:
		return "[]interface {}"
	default:
		return ""
	}
}

func TestProtocolErrors(t *testing.T) {
	cases := readProtocol(t).Errors
	current, _ := newTestHandler(t, Config{RateLimit: RateLimit{Mode: RateEnforce, ClientBurst: 1000, TokenBurst: 1, TokenRate: 0.001}})
	django, _ := newTestHandler(t, Config{Rules: eval.Rules2023})
	const definitions = "/flags/definitions?token=phc_test"
	conversations := map[string]func() *httptest.ResponseRecorder{
		"missing token": func() *httptest.ResponseRecorder { return call(current, "POST", "/flags/?v=2", `{"distinct_id":"u"}`) },
		"unknown token": func() *httptest.ResponseRecorder {
			return call(current, "POST", "/flags/?v=2", `{"token":"no","distinct_id":"u"}`)
		},
		"missing distinct_id": func() *httptest.ResponseRecorder { return call(current, "POST", "/flags/?v=2", `{"token":"phc_test"}`) },
		"rate limited": func() *httptest.ResponseRecorder {
			call(current, "POST", "/flags/?v=2", `{"token":"limited","distinct_id":"u"}`)
			return call(current, "POST", "/flags/?v=2", `{"token":"limited","distinct_id":"u"}`)
		},
		"definitions: no credentials": func() *httptest.ResponseRecorder { return call(current, "GET", definitions, "") },
		"definitions: bad secret": func() *httptest.ResponseRecorder {
			return call(current, "GET", definitions, "", "Authorization", "Bearer phs_wrong")
		},
		"definitions: bad personal key": func() *httptest.ResponseRecorder {
			return call(current, "GET", definitions, "", "Authorization", "Bearer phx_any")
		},
		"django decide: no key": func() *httptest.ResponseRecorder { return call(django, "POST", "/decide/?v=3", `{"distinct_id":"u"}`) },
		"django decide: invalid key": func() *httptest.ResponseRecorder {
			return call(django, "POST", "/decide/?v=3", `{"token":"no","distinct_id":"u"}`)
		},
		"django decide: no distinct_id": func() *httptest.ResponseRecorder { return call(django, "POST", "/decide/?v=3", `{"token":"phc_test"}`) },
	}
	for _, c := range cases {
		converse := conversations[c.Case]
		if converse == nil {
			t.Errorf("%s: no conversation", c.Case)
			continue
		}
		w := converse()
		var want any
		if err := json.Unmarshal(c.Body, &want); err != nil {
			t.Fatal(err)
		}
		var got any = w.Body.String()
		if _, text := want.(string); !text {
			members := jsonOf(t, w)
			delete(members, "hint") // ours, beside what upstream says
			got = members
		}
		if diff := cmp.Diff(want, got); w.Code != c.Status || diff != "" {
			t.Errorf("%s: got status %d, want %d; body (-want +got):\n%s", c.Case, w.Code, c.Status, diff)
		}
	}
	t.Logf("%d cases", len(cases))
}

func TestRuntimes(t *testing.T) {
	var data struct {
		Provenance string `json:"provenance"`
		Cases      []struct {
			Headers map[string]string `json:"headers"`
			Runtime string            `json:"runtime"`
		} `json:"cases"`
	}
	readTestdata(t, "runtimes.json", &data)
	runtimes := map[string]eval.Runtime{"": eval.RuntimeUnknown, "client": eval.RuntimeClient, "server": eval.RuntimeServer}
	for _, c := range data.Cases {
		h := http.Header{}
		for name, value := range c.Headers {
			h.Set(name, value)
		}
		if got := detectRuntime(h); got != runtimes[c.Runtime] {
			t.Errorf("%v: got runtime %d, want %q", c.Headers, got, c.Runtime)
		}
	}
	t.Logf("%d cases", len(data.Cases))
}
