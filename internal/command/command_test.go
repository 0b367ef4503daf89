package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type settings struct {
	DatabaseURL string `help:"Where." secret:""`
	Number      int    `help:"How many." default:"3"`

	Go struct{} `cmd:"" default:"withargs" help:"Go."`
}

func parse(t *testing.T, args ...string) (settings, string, error) {
	t.Helper()
	var s settings
	var out bytes.Buffer
	_, err := Parse("thing", "Does a thing.", "THING", &s, args, &out, &out)
	return s, out.String(), err
}

func TestParse(t *testing.T) {
	if s, _, err := parse(t, "--number=5"); err != nil || s.Number != 5 {
		t.Errorf("flag without command: %+v, %v", s, err)
	}
	t.Setenv("THING_NUMBER", "7")
	if s, _, err := parse(t, "go"); err != nil || s.Number != 7 {
		t.Errorf("environment: %+v, %v", s, err)
	}
	if s, _, err := parse(t, "go", "--number=5"); err != nil || s.Number != 5 {
		t.Errorf("a flag wins over the environment: %+v, %v", s, err)
	}
	_, out, err := parse(t, "--help")
	if err != nil || !strings.Contains(out, "$THING_DATABASE_URL") {
		t.Errorf("help: %q, %v", out, err)
	}
	_, _, err = parse(t, "--number=many")
	if err == nil || !strings.Contains(err.Error(), "--number") || ExitCode(err) != ExitBadSettings {
		t.Errorf("bad value: %v", err)
	}
}

func TestSecretFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(path, []byte("postgres://u:p@db/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("THING_DATABASE_URL_FILE", path)
	if s, _, err := parse(t); err != nil || s.DatabaseURL != "postgres://u:p@db/x" {
		t.Errorf("secret from a file: %+v, %v", s, err)
	}
	t.Setenv("THING_DATABASE_URL_FILE", path+".missing")
	if _, _, err := parse(t); err == nil || !strings.Contains(err.Error(), "THING_DATABASE_URL_FILE") {
		t.Errorf("missing file: %v", err)
	}
}

func TestExitCode(t *testing.T) {
	for want, err := range map[int]error{
		ExitOK: nil, ExitFailed: errors.New("x"), ExitBadSettings: fmt.Errorf("y: %w", BadSettingf("--addr", "in use")), ExitDrift: fmt.Errorf("z: %w", ErrDrift),
	} {
		if got := ExitCode(err); got != want {
			t.Errorf("ExitCode(%v) = %d, want %d", err, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1024": 1024, "64MiB": 64 << 20, "1GiB": 1 << 30, "500kB": 500_000, "2 g": 2 << 30} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GiB", "1.5GiB", "-1", "1X", "9999999999GiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}
