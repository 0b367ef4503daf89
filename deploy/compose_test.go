package deploy_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func compose(t *testing.T) document {
	t.Helper()
	return at[document](documents(t, read(t, "../docker-compose.yml"))[0], "services")
}

func strs(list []any) []string {
	var texts []string
	for _, e := range list {
		if text, ok := e.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}

// TestComposeIsPrivate: the file's passwords are public, so nothing may listen beyond this machine.
func TestComposeIsPrivate(t *testing.T) {
	published := 0
	for name, service := range compose(t) {
		for _, port := range strs(at[[]any](service, "ports")) {
			published++
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: %s is open to the network", name, port)
			}
		}
	}
	if published < 7 {
		t.Errorf("%d published ports: this test no longer sees them", published)
	}
}

func TestComposeMountsExist(t *testing.T) {
	mounts := 0
	for name, service := range compose(t) {
		for _, volume := range strs(at[[]any](service, "volumes")) {
			source, _, _ := strings.Cut(volume, ":")
			if !strings.HasPrefix(source, "./") {
				continue
			}
			mounts++
			if _, err := os.Stat("../" + source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if mounts < 7 {
		t.Errorf("%d mounts: this test no longer sees them", mounts)
	}
}

func TestComposeHardensPrograms(t *testing.T) {
	services := compose(t)
	for _, name := range []string{"replicator", "decide-1", "decide-2"} {
		s := services[name]
		if !at[bool](s, "read_only") || !slices.Equal(strs(at[[]any](s, "cap_drop")), []string{"ALL"}) {
			t.Errorf("%s can write its root file system or has capabilities", name)
		}
		if at[string](s, "build", "target") != strings.TrimRight(name, "-12") {
			t.Errorf("%s is built from target %q", name, at[string](s, "build", "target"))
		}
		if wait := at[document](s, "depends_on"); wait["redis"] == nil {
			t.Errorf("%s does not wait for a healthy Redis", name)
		}
	}
	for _, name := range []string{"postgres", "redis", "replicator", "decide-1", "decide-2"} {
		if at[[]any](services[name], "healthcheck", "test") == nil {
			t.Errorf("%s has no health check", name)
		}
	}
}

// TestComposeIsOld keeps the file valid for docker-compose 1.29, which knows no top-level name, and quiet for its successor, which wants no version.
func TestComposeIsOld(t *testing.T) {
	file := documents(t, read(t, "../docker-compose.yml"))[0]
	for key := range file {
		if !slices.Contains([]string{"services", "volumes"}, key) && !strings.HasPrefix(key, "x-") {
			t.Errorf("top-level %q", key)
		}
	}
}
