package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/testenv"
	"github.com/everflag/everflag/replication"
)

// exported is a Registerer that notes the names and labels of what the programs register.
type exported map[string][]string

func (e exported) Register(c prometheus.Collector) error {
	descriptions := make(chan *prometheus.Desc)
	go func() {
		c.Describe(descriptions)
		close(descriptions)
	}()
	for d := range descriptions {
		match := description.FindStringSubmatch(d.String())
		labels := words(match[3])
		for _, label := range constLabel.FindAllStringSubmatch(match[2], -1) {
			labels = append(labels, label[1])
		}
		e[match[1]] = labels
		if isHistogram(c) {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				e[match[1]+suffix] = append(slices.Clone(labels), "le")
			}
		}
	}
	return nil
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func isHistogram(c prometheus.Collector) bool {
	_, single := c.(prometheus.Histogram)
	_, vector := c.(*prometheus.HistogramVec)
	return single || vector
}

var (
	description = regexp.MustCompile(`fqName: "([^"]+)".*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)
	constLabel  = regexp.MustCompile(`([a-z_]+)="`)
)

// MustRegister implements prometheus.Registerer.
func (e exported) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = e.Register(c) // it returns no error
	}
}

// Unregister implements prometheus.Registerer.
func (e exported) Unregister(prometheus.Collector) bool { return false }

// metrics returns the names of everything that the programs export, each with its labels.
func metrics(t *testing.T) exported {
	t.Helper()
	e := exported{"up": nil}
	cfg := replication.Defaults()
	cfg.PostgresURL = "postgres://localhost/unused"
	if _, err := replication.New(cfg, nil, zap.NewNop(), e); err != nil {
		t.Fatal(err)
	}
	cachewriter.New(cachewriter.Config{Registerer: e})
	store.New(store.Config{Registerer: e})
	decide.NewMetrics(e)
	e.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return e
}

// ours are the metrics that are not those of every Go program.
func (e exported) ours() []string {
	var names []string
	for name := range e {
		if strings.HasPrefix(name, "everflag_") && !regexp.MustCompile(`_(bucket|sum|count)$`).MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

var (
	selector = regexp.MustCompile(`\b((?:everflag|process|go)_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
	legend   = regexp.MustCompile(`\{\{ *(?:\$labels\.)?([a-z_]+) *\}\}`)
)

// targetLabels are added by Prometheus and by whoever configures it.
var targetLabels = []string{"job", "instance", "namespace"}

// check reports what a PromQL expression, and texts about its result, name that nobody exports.
func (e exported) check(t *testing.T, where, expr string, texts ...string) {
	t.Helper()
	known := slices.Clone(targetLabels)
	found := selector.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	for _, m := range found {
		labels, exists := e[m[1]]
		if !exists {
			t.Errorf("%s: no program exports %s", where, m[1])
		}
		known = append(known, labels...)
		for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(labels, label[1]) && !slices.Contains(targetLabels, label[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], label[1])
			}
		}
	}
	var used []string
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		used = append(used, words(m[1])...)
	}
	for _, text := range texts {
		for _, m := range legend.FindAllStringSubmatch(text, -1) {
			used = append(used, m[1])
		}
	}
	for _, label := range used {
		if !slices.Contains(known, label) {
			t.Errorf("%s: nothing in %s has the label %s", where, expr, label)
		}
	}
}

// dashboard is what the tests look at of Grafana's model.
type dashboard struct {
	UID, Title  string
	Annotations struct{ List []target }
	Panels      []struct {
		ID          int
		Type, Title string
		Description string
		GridPos     struct{ X, Y, W, H int }
		Targets     []target
	}
}

type target struct{ Expr, LegendFormat string }

// promQL is the query with Grafana's variables filled in.
func (q target) promQL() string {
	return strings.NewReplacer("$__rate_interval", "1m", "$namespace", ".*").Replace(q.Expr)
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "grafana/everflag.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDashboard(t *testing.T) {
	dashboard := readDashboard(t)
	if dashboard.UID != "everflag" || len(dashboard.Panels) < 20 {
		t.Errorf("dashboard %q with %d panels", dashboard.UID, len(dashboard.Panels))
	}
	e, ids, taken := metrics(t), map[int]bool{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q: its id is another's", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q or beside the grid", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Description == "" {
			t.Errorf("panel %q: no query or no description", p.Title)
		}
		for _, q := range p.Targets {
			e.check(t, "panel "+p.Title, q.Expr, q.LegendFormat)
		}
	}
	for _, a := range dashboard.Annotations.List {
		e.check(t, "annotation", a.Expr)
	}
}

// TestDashboardParses gives the queries of all panels to promtool, as rules.
func TestDashboardParses(t *testing.T) {
	promtool := testenv.Tool(t, "prometheus", "promtool")
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			rule, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "x", "rules": []any{map[string]string{"record": "x", "expr": q.promQL()}}}}})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "rules.yml")
			if err := os.WriteFile(file, rule, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
				t.Errorf("panel %s: %v\n%s\n%s", p.Title, err, q.promQL(), out)
			}
		}
	}
}

type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := json.Marshal(documents(t, read(t, "prometheus/everflag.rules.yml"))[0])
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []alert } }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// anchors are the sections of the runbook as GitHub links to them.
func anchors(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(read(t, "../docs/operations.md"), -1) {
		slug := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return found
}

func TestAlerts(t *testing.T) {
	e, sections := metrics(t), anchors(t)
	const runbook = "https://github.com/everflag/everflag/blob/main/docs/operations.md#"
	seen := map[string]string{}
	all := alerts(t)
	for _, a := range all {
		e.check(t, a.Alert, a.Expr, a.Annotations["summary"], a.Annotations["description"])
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s: severity %q", a.Alert, a.Labels["severity"])
		}
		anchor, found := strings.CutPrefix(a.Annotations["runbook_url"], runbook)
		if !found || !sections[anchor] {
			t.Errorf("%s: its runbook entry %q is no section of docs/operations.md", a.Alert, a.Annotations["runbook_url"])
		}
		if seen[anchor] != "" {
			t.Errorf("%s shares its runbook entry with %s", a.Alert, seen[anchor])
		}
		seen[anchor] = a.Alert
		if !strings.Contains(read(t, "../docs/operations.md"), a.Alert) {
			t.Errorf("docs/operations.md does not name %s", a.Alert)
		}
	}
	if len(all) < 20 {
		t.Errorf("%d alerts", len(all))
	}
}

// TestAlertsFire runs the rules over series with promtool.
func TestAlertsFire(t *testing.T) {
	promtool := testenv.Tool(t, "prometheus", "promtool")
	for _, args := range [][]string{
		{"check", "rules", "everflag.rules.yml"},
		{"test", "rules", "everflag.rules.test.yml"},
		{"check", "config", "--syntax-only", "prometheus.yml"},
	} {
		command := exec.Command(promtool, args...)
		command.Dir = "prometheus"
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestMetricsAreDocumented holds the table of docs/operations.md to the programs, both ways.
func TestMetricsAreDocumented(t *testing.T) {
	text := read(t, "../docs/operations.md")
	e := metrics(t)
	for _, name := range e.ours() {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/operations.md lacks %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`everflag_(?:replicator|cachewriter|decide)_[a-z0-9_]*[a-z0-9]`).FindAllString(text, -1) {
		if _, exists := e[m]; !exists {
			t.Errorf("docs/operations.md speaks of %s, which no program exports", m)
		}
	}
}

// TestMetricsAreSeen shows that the reading of names and labels works.
func TestMetricsAreSeen(t *testing.T) {
	e := metrics(t)
	for name, labels := range map[string][]string{
		"everflag_replicator_leader": nil, "everflag_cachewriter_redis_errors_total": {"class"}, "everflag_decide_source": {"source"},
		"everflag_decide_requests_total": {"endpoint", "class"}, "everflag_decide_request_seconds_bucket": {"endpoint", "le"},
	} {
		if got, exists := e[name]; !exists || !slices.Equal(got, labels) {
			t.Errorf("%s: labels %v, want %v (exported: %v)", name, got, labels, slices.Sorted(maps.Keys(e)))
		}
	}
}
