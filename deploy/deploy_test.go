// Package deploy_test guarantees that what deploys the programs speaks of the programs as they are: their settings, ports, probes and metrics.
package deploy_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/everflag/everflag/internal/testenv"
)

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// document is one YAML document of unknown shape.
type document = map[string]any

func documents(t *testing.T, text string) []document {
	t.Helper()
	var found []document
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var d document
		if err := decoder.Decode(&d); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatalf("reading YAML: %v", err)
		}
		if d != nil {
			found = append(found, d)
		}
	}
}

// at walks the document by keys; what is not there is the zero value.
func at[T any](d any, keys ...any) T {
	for _, key := range keys {
		switch k := key.(type) {
		case string:
			m, _ := d.(document)
			d = m[k]
		case int:
			list, _ := d.([]any)
			if k >= len(list) {
				d = nil
				continue
			}
			d = list[k]
		}
	}
	found, _ := d.(T)
	return found
}

// TestMain stops the servers that the tests share.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// help returns what the program says of its settings.
func help(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.Command(testenv.Build(t, "cmd/"+program), map[string]string{"replicator": "run", "decide": "serve"}[program], "--help").Output()
	if err != nil {
		t.Fatalf("asking %s for its settings: %v", program, err)
	}
	return string(out)
}

var envName = regexp.MustCompile(`\$((?:REPLICATOR|DECIDE)_[A-Z0-9_]+)`)

// isSetting reports whether a program has the environment variable.
func isSetting(t *testing.T, name string) bool {
	t.Helper()
	program, _, _ := strings.Cut(strings.ToLower(name), "_")
	if program != "replicator" && program != "decide" {
		return false
	}
	secret, isFile := strings.CutSuffix(name, "_FILE")
	for _, match := range envName.FindAllStringSubmatch(help(t, program), -1) {
		// Secrets can come from files: those are the addresses, which hold passwords.
		if match[1] == name || isFile && match[1] == secret && strings.HasSuffix(secret, "_URL") && !strings.HasSuffix(secret, "ADMIN_URL") {
			return true
		}
	}
	return false
}

func TestIsSetting(t *testing.T) {
	for name, want := range map[string]bool{
		"REPLICATOR_SLOT": true, "REPLICATOR_POSTGRES_URL_FILE": true, "DECIDE_SNAPSHOT_FILE": true, "DECIDE_DRAIN_DELAY": true,
		"REPLICATOR_SLOTS": false, "DECIDE_SLOT": false, "REPLICATOR_SLOT_FILE": false, "PATH": false,
	} {
		if got := isSetting(t, name); got != want {
			t.Errorf("%s: is a setting: %v, want %v", name, got, want)
		}
	}
}

// environmentNames finds every name that looks like a setting in a file about deploying.
func environmentNames(text string) []string {
	return regexp.MustCompile(`\b(?:REPLICATOR|DECIDE)_[A-Z0-9_]*[A-Z0-9]\b`).FindAllString(text, -1)
}

// ports are those of the programs' listeners; the tests hold every file to them, and them to the programs' defaults.
var ports = map[string]int{"replicator admin": 9464, "decide admin": 9465, "decide http": 8000}

func TestSettingsExist(t *testing.T) {
	own := map[string]bool{ // of the compose file: ports on the host
		"REPLICATOR_ADMIN_PORT": true, "DECIDE_1_PORT": true, "DECIDE_2_PORT": true, "DECIDE_1_ADMIN_PORT": true, "DECIDE_2_ADMIN_PORT": true,
	}
	files := []string{
		"../Dockerfile", "../docker-compose.yml", "helm/rendered/everything.yaml", "helm/everflag/values.yaml", "kubernetes/sidecar.yaml",
		"systemd/everflag-replicator.service", "systemd/everflag-decide.service", "systemd/replicator.env", "systemd/decide.env", "../docs/operations.md",
	}
	for _, file := range files {
		names := environmentNames(read(t, file))
		if len(names) == 0 {
			t.Errorf("%s names no setting: this test no longer sees them", file)
		}
		for _, name := range names {
			if !own[name] && !isSetting(t, name) {
				t.Errorf("%s: no program has the setting %s", file, name)
			}
		}
	}
}

func TestPortsAreTheDefaults(t *testing.T) {
	for program, defaults := range map[string][]string{"replicator": {"127.0.0.1:9464"}, "decide": {"127.0.0.1:9465", ":8000"}} {
		for _, address := range defaults {
			if !strings.Contains(help(t, program), address) {
				t.Errorf("%s no longer listens on %s by default", program, address)
			}
		}
	}
}
