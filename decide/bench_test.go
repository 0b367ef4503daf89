package decide

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// sink is a ResponseWriter that keeps nothing, as cheap as one can be.
type sink struct {
	header http.Header
	status int
	n      int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { s.n += len(p); return len(p), nil }

// referenceFlags are the flags of docs/performance.md's reference request: a rollout and one or two properties each, every tenth multivariate.
func referenceFlags(n int) []string {
	var flags []string
	for i := range n {
		properties := `{"key":"plan","type":"person","operator":"exact","value":["pro","team"]}`
		if i%2 == 0 {
			properties += `,{"key":"age","type":"person","operator":"gt","value":"18"}`
		}
		variants := ""
		if i%10 == 0 {
			variants = `,"multivariate":{"variants":[{"key":"control","rollout_percentage":50},{"key":"test","rollout_percentage":50}]}`
		}
		flags = append(flags, fmt.Sprintf(`"key":"reference-flag-number-%d","filters":{"groups":[{"properties":[%s],"rollout_percentage":%d}]%s}`, i, properties, 50+i%50, variants))
	}
	return flags
}

const referenceBody = `{"token":"phc_test","distinct_id":"0190a9f2-51aa-7d50-a5b5-0c5c1f0c3b11","groups":{},"person_properties":{"plan":"pro","age":42,"email":"someone@example.com","country":"DE","$os":"Linux","$browser":"Firefox","signed_up_at":"2024-05-01T10:00:00Z"},"timezone":"Europe/Berlin"}`

// referenceRequest is a request that can be served any number of times.
type referenceRequest struct {
	*http.Request
	body *bytes.Reader
	w    *sink
}

func newReferenceRequest() *referenceRequest {
	body := bytes.NewReader([]byte(referenceBody))
	r := httptest.NewRequest("POST", "/flags/?v=2", body)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "posthog-go/1.5.2")
	return &referenceRequest{Request: r, body: body, w: &sink{header: http.Header{}}}
}

func (r *referenceRequest) serve(h http.Handler) {
	if _, err := r.body.Seek(0, io.SeekStart); err != nil {
		panic(err) // a bytes.Reader seeks to its start
	}
	clear(r.w.header)
	r.w.n = 0
	h.ServeHTTP(r.w, r.Request)
}

func BenchmarkHandler(b *testing.B) {
	for _, flags := range []int{1, 50, 350} {
		b.Run(fmt.Sprintf("flags=%d", flags), func(b *testing.B) {
			h, _ := newTestHandler(b, Config{}, referenceFlags(flags)...)
			request := newReferenceRequest()
			b.ReportAllocs()
			for b.Loop() {
				request.serve(h)
			}
			b.ReportMetric(float64(request.w.n), "answer-bytes")
		})
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	var r request
	b.ReportAllocs()
	for b.Loop() {
		r.reset()
		if err := r.decode(referenceBody, false); err != nil {
			b.Fatal(err)
		}
	}
}

// The whole handler allocates a handful of small things per request, however many flags there are: the body's text and the values of headers.
func TestHandlerAllocations(t *testing.T) { // S41, S49
	if raceEnabled {
		t.Skip("allocations are counted without the race detector")
	}
	source := newFakeSource(0)
	source.put("phc_test", newTeam(t, "phc_test", "", referenceFlags(50)...))
	h := New(Config{}, source, zap.NewNop(), NewMetrics(prometheus.NewRegistry()))
	request := newReferenceRequest()
	request.serve(h)
	if request.w.status != http.StatusOK {
		t.Fatalf("got %d", request.w.status)
	}
	if n := testing.AllocsPerRun(200, func() { request.serve(h) }); n > 4 {
		t.Errorf("%v allocations per request", n)
	}
}
