package decide

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everflag/everflag/decide/eval"
)

// zipped is the text, compressed.
func zipped(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Size limits: S35.
func TestBodyLimits(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	pad := func(n int) string { return anyone + strings.Repeat(" ", n-len(anyone)) }
	bomb := zipped(t, strings.Repeat(" ", maxInflatedBody+1))
	if len(bomb) > maxWireBody {
		t.Fatalf("bomb of %d bytes does not fit the wire", len(bomb))
	}
	for name, c := range map[string]struct {
		body, query string
		status      int
	}{
		"largest body":         {pad(maxWireBody), "", 200},
		"one byte more":        {pad(maxWireBody + 1), "", 413},
		"bomb by query":        {bomb, "&compression=gzip", 413},
		"bomb by magic":        {bomb, "", 413},
		"bomb within limits":   {zipped(t, strings.Repeat(" ", maxInflatedBody)), "", 400},
		"deep arrays":          {`{"token":"phc_test","distinct_id":"u","x":` + strings.Repeat("[", 200_000), "", 400},
		"deep, but closed":     {`{"token":"phc_test","distinct_id":"u","x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}", "", 400},
		"not so deep":          {`{"token":"phc_test","distinct_id":"u","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}", "", 200},
		"too many values":      {`{"token":"phc_test","distinct_id":"u","x":[` + strings.Repeat("1,", maxJSONValues) + "1]}", "", 400},
		"too many properties":  {`{"token":"phc_test","distinct_id":"u","person_properties":{` + strings.Repeat(`"a":1,`, maxJSONValues) + `"b":1}}`, "", 400},
		"too many groups":      {`{"token":"phc_test","distinct_id":"u","groups":{` + strings.Repeat(`"a":1,`, maxGroups) + `"b":1}}`, "", 400},
		"megabyte property":    {`{"token":"phc_test","distinct_id":"u","person_properties":{"plan":"` + strings.Repeat("x", 1_000_000) + `"}}`, "", 200},
		"megabyte distinct id": {`{"token":"phc_test","distinct_id":"` + strings.Repeat("é", 500_000) + `"}`, "", 200},
	} {
		if w := call(h, "POST", "/flags/?v=2"+c.query, c.body); w.Code != c.status {
			t.Errorf("%s: got %d, want %d", name, w.Code, c.status)
		}
	}
	chunked := httptest.NewRequest("POST", "/flags/?v=2", io.MultiReader(strings.NewReader(pad(maxWireBody)), strings.NewReader("x")))
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, chunked); w.Code != 413 || w.Header().Get("Connection") != "close" {
		t.Errorf("too large without length: got %d, Connection %q", w.Code, w.Header().Get("Connection"))
	}
}

// A bomb costs no more memory than the limit, and none stays: buffers above keptBuffer are not pooled.
func TestBombMemory(t *testing.T) { // S35, S49
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	bomb := zipped(t, strings.Repeat(" ", 8*maxInflatedBody))
	memory := func() (m runtime.MemStats) {
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m
	}
	const rounds = 3
	call(h, "POST", "/flags/?v=2", bomb)
	before := memory()
	for range rounds {
		if w := call(h, "POST", "/flags/?v=2", bomb); w.Code != http.StatusRequestEntityTooLarge {
			t.Fatalf("got %d", w.Code)
		}
	}
	after := memory()
	if after.HeapInuse > before.HeapInuse+4<<20 {
		t.Errorf("heap grew from %d to %d bytes", before.HeapInuse, after.HeapInuse)
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > 3*maxInflatedBody { // twice with the race detector; a buffer that grows is copied a few times
		t.Errorf("%d bytes allocated per bomb", each)
	}
}

// What is kept by token holds the token, not the request that it came with, and of a token no more than there is in those of teams. S49, S50.
func TestKeptByToken(t *testing.T) {
	const requests, size = 64, 500_000
	large := strings.Repeat("x", size)
	for name, c := range map[string]struct {
		mode  RateMode
		token string
		known bool
	}{
		"a limit, for unknown tokens":       {RateLog, "phc_%d", false},
		"a limit, for tokens that are long": {RateLog, "%d" + large, false},
		"the views of teams":                {RateOff, "phc_%d", true},
	} {
		h, source := newTestHandler(t, Config{RateLimit: RateLimit{Mode: c.mode}}, everyone("on"))
		want := http.StatusUnauthorized
		if c.known {
			want = http.StatusOK
			for n := range requests {
				token := fmt.Sprintf(c.token, n)
				source.put(token, newTeam(t, token, ""))
			}
		}
		ask := func(n int) {
			t.Helper()
			body := `{"token":"` + fmt.Sprintf(c.token, n) + `","distinct_id":"u","person_properties":{"plan":"` + large + `"}}`
			if w := call(h, "POST", "/flags/?v=2", body); w.Code != want {
				t.Fatalf("%s: got %d, want %d", name, w.Code, want)
			}
		}
		ask(0)
		before := heapInUse()
		for n := range requests {
			ask(n)
		}
		if after := heapInUse(); after > before+4<<20 {
			t.Errorf("%s: heap grew from %d to %d bytes", name, before, after)
		}
		runtime.KeepAlive(h)
	}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func TestConcurrencyLimit(t *testing.T) { // S40
	h, _ := newTestHandler(t, Config{MaxConcurrent: 1}, everyone("on"))
	h.running.Add(1)
	w := call(h, "POST", "/flags/?v=2", anyone)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || testutil.ToFloat64(h.metrics.busy) != 1 {
		t.Errorf("full: got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	h.running.Add(-1)
	if w := call(h, "POST", "/flags/?v=2", anyone); w.Code != http.StatusOK || h.running.Load() != 0 {
		t.Errorf("free: got %d, %d slots held", w.Code, h.running.Load())
	}
}

// Off, log and enforce: S50.
func TestRateLimit(t *testing.T) {
	for mode, want := range map[RateMode]string{RateOff: "200 200 200 200 200 200", RateLog: "200 200 200 200 200 200", RateEnforce: "200 200 200 200 200 429"} {
		h, _ := newTestHandler(t, Config{RateLimit: RateLimit{Mode: mode, TokenBurst: 5, TokenRate: 1e-9}}, everyone("on"))
		var got, warned []string
		for range 6 {
			w := call(h, "POST", "/flags/?v=2", anyone)
			got = append(got, fmt.Sprint(w.Code))
			warned = append(warned, w.Header().Get("X-PostHog-Rate-Limit-Warning"))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("mode %d: got %s, want %s", mode, text, want)
		}
		if mode == RateEnforce && strings.Join(warned, ",") != ",,,,true," {
			t.Errorf("warnings at 80 %% of the bucket: got %q", warned)
		}
		if other := call(h, "POST", "/flags/?v=2", `{"token":"phc_other","distinct_id":"u"}`); other.Code != 401 {
			t.Errorf("mode %d: another token got %d", mode, other.Code)
		}
		if exceeded := testutil.ToFloat64(h.limits.token.exceeded); (exceeded == 1) != (mode != RateOff) {
			t.Errorf("mode %d: counted %v", mode, exceeded)
		}
	}
}

func TestClientRateLimit(t *testing.T) { // S50
	cfg := Config{RateLimit: RateLimit{Mode: RateEnforce, ClientBurst: 1, ClientRate: 1e-9}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	h, _ := newTestHandler(t, cfg, everyone("on"))
	for i, c := range []struct {
		forwarded string
		status    int
	}{
		{"203.0.113.1", 200},
		{"203.0.113.1", 429},
		{"203.0.113.2", 200},
		{"203.0.113.9, 203.0.113.2", 429}, // what the client itself claims does not count
	} {
		if w := call(h, "POST", "/flags/?v=2", anyone, "X-Forwarded-For", c.forwarded); w.Code != c.status {
			t.Errorf("request %d from %s: got %d, want %d", i, c.forwarded, w.Code, c.status)
		}
	}
}

func TestUntrustedPeerIsTheClient(t *testing.T) { // S50
	r := httptest.NewRequest("GET", "/", nil)
	r.Header["X-Forwarded-For"] = []string{"203.0.113.1", "203.0.113.2"}
	if got := clientAddr(r, nil).String(); got != "192.0.2.1" {
		t.Errorf("nobody trusted: got %s", got)
	}
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	if got := clientAddr(r, all).String(); got != "203.0.113.1" {
		t.Errorf("everybody trusted, two headers: got %s", got)
	}
	r.RemoteAddr = "@"
	if got := clientAddr(r, nil); got.IsValid() {
		t.Errorf("unix socket: got %s", got)
	}
}

// However many keys come, the buckets kept are bounded.
func TestGenerations(t *testing.T) { // S50
	g := newGenerations[int](100)
	for i := range 10_000 {
		g.set(fmt.Sprint(i), i, 1)
		if v, ok := g.get("0"); !ok || v != 0 {
			t.Fatalf("key in use dropped after %d others", i)
		}
		if n := len(g.young) + len(g.old); n > 202 {
			t.Fatalf("%d entries kept", n)
		}
	}
	if _, ok := g.get("5"); ok {
		t.Error("key that nobody asked for is still there")
	}
	g.set("0", 1, 1)
	if v, _ := g.get("0"); v != 1 {
		t.Errorf("replaced value: got %d", v)
	}
}

// Evaluation contexts, flag keys and runtimes reach the evaluator as it expects them.
func TestDecodedInput(t *testing.T) {
	var r request
	err := r.decode(`{"token":" t ","distinct_id":1.50,"$anon_distinct_id":"a","device_id":"d","groups":{"org":"acme","n":42,"bad":{},"empty":""},
		"group_properties":{"org":{"plan":"pro"},"none":null,"only":{"x":1}},"person_properties":{"a":{"b" : [1, "\u00e9\/<"]},"c":[1,2],"n":-1.0e3},
		"flag_keys":["x",1],"evaluation_contexts":[" Web "],"evaluation_runtime":"server","geoip_disable":true,"disable_flags":null}`, false)
	if err != nil {
		t.Fatal(err)
	}
	in := r.input
	if r.token != "t" || in.DistinctID != "1.5" || in.AnonDistinctID != "a" || in.DeviceID != "d" || !r.geoipDisable || r.disableFlags || r.runtime != eval.RuntimeServer {
		t.Errorf("got %+v", r)
	}
	if fmt.Sprint(in.Keys, in.Contexts) != "[x] [web]" {
		t.Errorf("got keys %v, contexts %v", in.Keys, in.Contexts)
	}
	if got, want := fmt.Sprint(in.Person), `[{a {6 {"b":[1,"é/<"]}}} {c {5 [1,2]}} {n {3 -1.0e3}}]`; got != want {
		t.Errorf("person: got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(in.Groups), `[{org acme true [{plan {4 pro}}]} {n 42 true []} {bad  false []} {empty  false []} {none  false []} {only  false [{x {3 1}}]}]`; got != want {
		t.Errorf("groups: got %s, want %s", got, want)
	}
	again := r // no flag_keys means all of them, whatever the request before asked for
	for range 3 {
		if again.reset(); again.decode(`{"token":"t","person_properties":{"a":1},"$properties":{"b":2},"groups":null,"flag_keys":[]}`, false) != nil || len(again.input.Person) != 1 || len(again.input.Groups) != 0 || again.input.Keys != nil {
			t.Fatalf("reused: got %+v", again.input)
		}
	}
}
