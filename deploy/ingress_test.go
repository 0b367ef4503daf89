package deploy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

// nobody is a source without teams.
type nobody struct{}

func (nobody) Program(string) (*eval.Program, decide.Lookup)   { return nil, decide.Absent }
func (nobody) Records(string) (*flagcache.Team, decide.Lookup) { return nil, decide.Absent }
func (nobody) Position() decide.Position                       { return decide.Position{Ready: true} }

// TestChartRoutes holds the Ingress to what decide answers and to what docs/posthog.md gives it: no more, since the application has pages below /flags.
func TestChartRoutes(t *testing.T) {
	t.Parallel()
	served := decide.New(decide.Config{}, nobody{}, zaptest.NewLogger(t), decide.NewMetrics(prometheus.NewRegistry()))
	answered := func(path string) bool {
		w := httptest.NewRecorder()
		served.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader("{}")))
		return w.Code != http.StatusNotFound
	}
	exact, prefixes := map[string]bool{}, []string{}
	for _, rule := range at[[]any](find(t, rendered(t, "everything"), "Ingress", "-decide"), "spec", "rules", 0, "http", "paths") {
		path := at[string](rule, "path")
		switch kind := at[string](rule, "pathType"); kind {
		case "Exact":
			exact[path] = true
			if !answered(path) {
				t.Errorf("decide gets %s, and does not know it", path)
			}
		case "Prefix":
			prefixes = append(prefixes, path)
		default:
			t.Errorf("%s has the type %q", path, kind)
		}
	}
	routed := func(path string) bool {
		for _, prefix := range prefixes { // element by element, as Kubernetes matches
			if path == prefix || strings.HasPrefix(path, prefix+"/") {
				return true
			}
		}
		return exact[path]
	}
	for _, path := range []string{
		"/flags", "/flags/", "/decide", "/decide/", "/flags/definitions", "/flags/definitions/", "/api/feature_flag/local_evaluation", "/api/feature_flag/local_evaluation/",
		"/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/new-checkout",
	} {
		if !routed(path) || !answered(path) {
			t.Errorf("%s: routed to decide %t, answered %t", path, routed(path), answered(path))
		}
	}
	for _, path := range []string{"/", "/flags/new", "/flags/12", "/flagship", "/decide/x", "/feature_flags", "/ofrep", "/api/feature_flag", "/api/projects", "/array/phc_x/array.js", "/e/", "/static/a.js"} {
		if routed(path) {
			t.Errorf("%s is routed to decide", path)
		}
	}
}
