package docs_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/everflag/everflag/internal/testenv"
)

// The addresses in docs/posthog.md are those of the loopback network here, so that both decides can have the same ports, as there.
const (
	decide1, decide2 = "127.0.0.11", "127.0.0.12"
	posthogHost      = "127.0.1.5"
	fakeHeader       = "X-Fake-Posthog"
)

// proxyProgram is a proxy that docs/posthog.md has a configuration for.
type proxyProgram struct {
	language, command, debianPackage string

	arguments func(file string) []string
	// wrap makes a whole file of the block; dir is for what the program writes.
	wrap func(block, dir string) string
	// all and none are replacements that give decide all flags or none. Caddy has no shares.
	share, all, none string
	listen           string
	definitions      []string // replacements that do what the block's comments say for definitions
}

var proxyPrograms = []proxyProgram{
	{
		language: "nginx", command: "nginx", debianPackage: "nginx-light", listen: "listen 80;", share: "  5%  decide;\n  *   posthog;", all: "* decide;", none: "* posthog;",
		definitions: []string{"^/(flags|decide)/?$", "^/(flags|decide|flags/definitions|api/feature_flag/local_evaluation)/?$"},
		arguments:   func(file string) []string { return []string{"-c", file, "-p", filepath.Dir(file), "-e", "stderr"} },
		wrap: func(block, dir string) string {
			user := ""
			if os.Getuid() == 0 {
				user = "user root root;\n" // its temporary files are in a directory of ours
			}
			var paths strings.Builder
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				fmt.Fprintf(&paths, "%s_temp_path %s/%s;\n", kind, dir, kind)
			}
			return user + "daemon off;\nmaster_process off;\npid " + dir + "/pid;\nevents {}\nhttp {\naccess_log off;\n" + paths.String() + block + "}\n"
		},
	},
	{
		language: "haproxy", command: "haproxy", debianPackage: "haproxy", listen: "bind :80", share: "lt 5", all: "lt 100", none: "lt 0",
		definitions: []string{"# acl flags", "acl flags"},
		arguments:   func(file string) []string { return []string{"-db", "-f", file} },
		wrap:        func(block, _ string) string { return block },
	},
	{
		language: "caddyfile", command: "caddy", debianPackage: "caddy", listen: "http:// {",
		definitions: []string{"path /flags /flags/ /decide /decide/", "path /flags /flags/ /decide /decide/ " + definitionPaths},
		arguments:   func(file string) []string { return []string{"run", "--adapter", "caddyfile", "--config", file} },
		wrap:        func(block, _ string) string { return "{\n\tadmin off\n\tauto_https off\n}\n" + block },
	},
}

// definitionPaths are those of local evaluation.
const definitionPaths = "/flags/definitions /flags/definitions/ /api/feature_flag/local_evaluation /api/feature_flag/local_evaluation/"

// TestProxies runs each configuration of docs/posthog.md with the real proxy, real decides and a PostHog that only tells what it was asked.
func TestProxies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("real programs run without -short")
	}
	if runtime.GOOS != "linux" {
		testenv.Missing(t, "the loopback network is not all of 127.0.0.0/8, as it is on Linux")
	}
	src := newSource(t)
	for _, program := range proxyPrograms {
		t.Run(program.command, func(t *testing.T) {
			t.Parallel()
			testenv.Tool(t, program.debianPackage, program.command)
			testProxy(t, src, program)
		})
	}
}

func testProxy(t *testing.T, src *source, program proxyProgram) {
	port, adminPort := testenv.FreePort(t), testenv.FreePort(t)
	fake := startFake(t)
	first, second := src.decide(t, decide1, port, adminPort), src.decide(t, decide2, port, adminPort)
	addresses := []string{"10.0.0.11:8000", decide1 + ":" + port, "10.0.0.12:8000", decide2 + ":" + port, "10.0.1.5:8000", posthogHost + ":" + fake.port}
	if program.language != "nginx" {
		addresses = append(addresses, "port 9465", "port "+adminPort) // in health_port as well
	}
	all, none := "", ""
	if program.share == "" {
		all = program.start(t, addresses...)
	} else {
		all = program.start(t, slices.Concat(addresses, []string{program.share, program.all})...)
		none = program.start(t, slices.Concat(addresses, []string{program.share, program.none})...)
	}
	definitions := program.start(t, slices.Concat(addresses, program.definitions, []string{program.share, program.all})...)
	expect := func(when, method, address, path, want string) {
		t.Helper()
		testenv.Eventually(t, patience, func() error {
			got, err := ask(method, address, path)
			if err == nil && got != want {
				err = fmt.Errorf("%s: %s %s was answered by %q, want %q", when, method, path, got, want)
			}
			return err
		})
	}

	for _, path := range []string{"/flags", "/flags/?v=2", "/decide", "/decide/?v=3", "/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/new-checkout"} {
		expect("with all flags", http.MethodPost, all, path, "decide")
	}
	for path := range strings.FieldsSeq(definitionPaths) {
		expect("with definitions", http.MethodGet, definitions, path+"?token="+testenv.DemoToken, "decide")
	}
	array := "/array/" + testenv.DemoToken
	for _, path := range posthogPaths() {
		expect("with all flags", http.MethodGet, all, path, "posthog")
	}
	expect("with all flags", http.MethodPost, all, "/i/v0/e/?compression=gzip-js", "posthog")
	if none != "" {
		expect("with no flags", http.MethodPost, none, "/flags/?v=2", "posthog")
	}

	if program.language == "nginx" { // the one of the three that goes by answers
		release := fake.hang()
		expect("with a PostHog that hangs", http.MethodGet, all, array+"/config", "decide")
		expect("with a PostHog that hangs", http.MethodPost, none, "/flags/?v=2", "decide")
		release()
	}
	fake.stop()
	expect("without PostHog", http.MethodGet, all, array+"/config", "decide")
	expect("without PostHog", http.MethodGet, all, array+"/config.js", "decide")
	expect("without PostHog", http.MethodPost, all, "/flags/?v=2", "decide")
	if none != "" {
		expect("without PostHog", http.MethodPost, none, "/flags/?v=2", "decide")
	}

	fake.start(t)
	expect("with PostHog again", http.MethodGet, all, array+"/config", "posthog")
	first.Kill(t)
	expect("with one decide", http.MethodPost, all, "/flags/?v=2", "decide")
	second.Kill(t)
	expect("without decide", http.MethodPost, all, "/flags/?v=2", "posthog")
	if body := fake.lastBody(); body != requestBody {
		t.Errorf("the second attempt sent %q", body)
	}
	src.decide(t, decide1, port, adminPort, "DECIDE_KEY_PREFIX=nobodys")
	expect("with a decide that has nothing", http.MethodPost, all, "/flags/?v=2", "posthog")
}

// posthogPaths are those that docs/posthog.md leaves with PostHog.
func posthogPaths() []string {
	return []string{
		"/", "/e/", "/i/v0/e/", "/batch/", "/s/", "/capture/", "/static/array.js", "/array/phc_x/array.js", "/array/" + testenv.DemoToken + "/config",
		"/array/" + testenv.DemoToken + "/config.js", "/api/surveys/", "/api/early_access_features/", "/api/projects/@current/feature_flags/x/remote_config",
		"/flagship", "/flags/x", "/decided", "/api/projects/1/feature_flags", "/flags/definitions", "/api/feature_flag/local_evaluation/",
	}
}

// start runs the proxy with the block, changed as told in pairs of old and new, and returns its address.
func (p *proxyProgram) start(t *testing.T, changes ...string) string {
	t.Helper()
	own := testenv.FreePort(t)
	block := one(t, "docs/posthog.md", p.language)
	changes = append(changes, p.listen, strings.NewReplacer("80", "127.0.0.1:"+own, ":80", "127.0.0.1:"+own, "http:// ", "http://:"+own+" ").Replace(p.listen))
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(block, changes[i]) {
			t.Fatalf("the block %s does not contain %q", p.language, changes[i])
		}
		if changes[i] != "" {
			block = strings.ReplaceAll(block, changes[i], changes[i+1])
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "proxy.conf")
	if err := os.WriteFile(file, []byte(p.wrap(block, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, p.command, []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, p.arguments(file)...)
	testenv.Eventually(t, patience, func() error {
		connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+own)
		if err == nil {
			err = connection.Close()
		}
		return err
	})
	return "http://127.0.0.1:" + own
}

// fake is a PostHog that answers everything with 200.
type fake struct {
	port   string
	server *http.Server

	mu       sync.Mutex
	body     string
	released chan struct{} // nil, or what requests wait for
}

func startFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{port: testenv.FreePort(t)}
	f.start(t)
	t.Cleanup(f.stop)
	return f
}

func (f *fake) start(t *testing.T) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", posthogHost+":"+f.port)
	if err != nil {
		t.Fatal(err)
	}
	f.server = &http.Server{Handler: f}          //nolint:gosec // because its only clients are those of the test
	go func() { _ = f.server.Serve(listener) }() // ends with stop
}

func (f *fake) stop() {
	_ = f.server.Close() // a second time it has nothing to do
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // what is missing shows in lastBody
	f.mu.Lock()
	f.body = string(body)
	released := f.released
	f.mu.Unlock()
	if released != nil {
		<-released
	}
	w.Header().Set(fakeHeader, r.URL.Path)
	_, _ = io.WriteString(w, "{}") // a client that has gone away needs no answer
}

// hang lets requests wait until the function that it returns is called.
func (f *fake) hang() (release func()) {
	released := make(chan struct{})
	f.mu.Lock()
	f.released = released
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		f.released = nil
		f.mu.Unlock()
		close(released)
	}
}

func (f *fake) lastBody() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body
}

// TestRoutedPathsAreServed holds the paths that are given to decide against a real one: it knows each, and none of those that stay with PostHog.
func TestRoutedPathsAreServed(t *testing.T) {
	t.Parallel()
	src := newSource(t)
	port := testenv.FreePort(t)
	src.decide(t, "127.0.0.1", port, testenv.FreePort(t))
	var route struct {
		Spec struct {
			Rules []struct {
				Matches []struct {
					Path struct{ Type, Value string }
				}
				BackendRefs []struct{ Name string } `yaml:"backendRefs"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(one(t, "docs/posthog.md", "yaml")), &route); err != nil {
		t.Fatal(err)
	}
	paths := strings.Fields(definitionPaths)
	for _, rule := range route.Spec.Rules {
		for _, match := range rule.Matches {
			if rule.BackendRefs[0].Name != "everflag-decide" {
				t.Errorf("%s goes to %s", match.Path.Value, rule.BackendRefs[0].Name)
			}
			paths = append(paths, match.Path.Value)
		}
	}
	if len(paths) != 9 {
		t.Errorf("%d paths: %q", len(paths), paths)
	}
	address := "http://127.0.0.1:" + port
	testenv.Eventually(t, patience, func() error { _, err := ask(http.MethodPost, address, "/flags"); return err })
	for _, path := range paths {
		if err := status(t.Context(), address+path); err == http.StatusNotFound {
			t.Errorf("decide does not know %s", path)
		}
	}
	for _, path := range posthogPaths() {
		if strings.Contains(path, "/config") || strings.Contains(path, "definitions") || strings.Contains(path, "local_evaluation") {
			continue // decide has them, too
		}
		if got := status(t.Context(), address+path); got != http.StatusNotFound {
			t.Errorf("decide answers %s with %d, want 404", path, got)
		}
	}
}

func status(ctx context.Context, address string) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0
	}
	response, err := impatient.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close() // only its status is of interest
	return response.StatusCode
}
