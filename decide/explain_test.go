package decide

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/everflag/everflag/decide/eval"
)

func TestExplain(t *testing.T) {
	source := newFakeSource(0)
	source.put("phc_test", newTeam(t, "phc_test", "", everyone("on"), plan("pro-only")))
	h := ExplainHandler(source)
	w := call(h, "POST", "/explain", `{"token":"phc_test","request":{"distinct_id":"u","person_properties":{"plan":"free"}}}`)
	var got eval.Explanation
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("got %d %s: %v", w.Code, w.Body, err)
	}
	if len(got.Flags) != 2 || !got.Flags[0].Enabled || got.Flags[1].Enabled || len(got.Flags[1].Steps) == 0 {
		t.Errorf("got %+v", got)
	}
	for body, status := range map[string]int{
		`{`: 400, `{"token":"phc_no","request":{"distinct_id":"u"}}`: 401, `{"token":"phc_test"}`: 400, `{"token":"phc_test","request":{}}`: 400,
		`{"token":"phc_test","request":{"distinct_id":[]}}`: 400,
	} {
		if w := call(h, "POST", "/explain", body); w.Code != status {
			t.Errorf("%s: got %d, want %d", body, w.Code, status)
		}
	}
	if w := call(h, "GET", "/explain", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: got %d", w.Code)
	}
	source.set(func() { source.unknown = Unavailable })
	if w := call(h, "POST", "/explain", `{"token":"phc_no","request":{"distinct_id":"u"}}`); w.Code != http.StatusServiceUnavailable {
		t.Errorf("cannot tell: got %d", w.Code)
	}
}

// The public listener explains nothing.
func TestExplainIsNotPublic(t *testing.T) {
	h, _ := newTestHandler(t, Config{}, everyone("on"))
	for _, path := range []string{"/explain", "/api/explain", "/debug/pprof/", "/metrics", "/status"} {
		if w := call(h, "POST", path, `{"token":"phc_test","request":{"distinct_id":"u"}}`); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d", path, w.Code)
		}
	}
}
