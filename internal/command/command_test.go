package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

func parsed(t *testing.T, args ...string) (settings, string, error) {
	t.Helper()
	var s settings
	var out bytes.Buffer
	_, err := parse("thing", "Does a thing.", &s, args, &out, &out)
	return s, out.String(), err
}

func TestParse(t *testing.T) {
	if s, _, err := parsed(t, "--number=5"); err != nil || s.Number != 5 {
		t.Errorf("flag without command: %+v, %v", s, err)
	}
	t.Setenv("THING_NUMBER", "7")
	if s, _, err := parsed(t, "go"); err != nil || s.Number != 7 {
		t.Errorf("environment: %+v, %v", s, err)
	}
	if s, _, err := parsed(t, "go", "--number=5"); err != nil || s.Number != 5 {
		t.Errorf("a flag wins over the environment: %+v, %v", s, err)
	}
	_, out, err := parsed(t, "--help")
	if err != nil || !strings.Contains(out, "$THING_DATABASE_URL") {
		t.Errorf("help: %q, %v", out, err)
	}
	_, _, err = parsed(t, "--number=many")
	if err == nil || !strings.Contains(err.Error(), "--number") || exitCode(err) != exitBadSettings {
		t.Errorf("bad value: %v", err)
	}
}

func TestSecretFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(path, []byte("postgres://u:p@db/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("THING_DATABASE_URL_FILE", path)
	if s, _, err := parsed(t); err != nil || s.DatabaseURL != "postgres://u:p@db/x" {
		t.Errorf("secret from a file: %+v, %v", s, err)
	}
	t.Setenv("THING_DATABASE_URL_FILE", path+".missing")
	if _, _, err := parsed(t); err == nil || !strings.Contains(err.Error(), "THING_DATABASE_URL_FILE") {
		t.Errorf("missing file: %v", err)
	}
}

// asked is a program that says what it is asked to do.
type asked struct {
	settings

	Fail struct{} `cmd:"" help:"Fail."`
}

// Dispatch implements Settings.
func (s *asked) Dispatch(ctx context.Context, command string, stdout, _ io.Writer) error {
	if command == "fail" {
		return BadSettingf("--database-url", "postgres://u:s3cret@db is not there")
	}
	fmt.Fprintln(stdout, command, s.Number, ctx.Err())
	return nil
}

func TestRun(t *testing.T) {
	for args, want := range map[string]struct {
		code   int
		out    string
		errors string
	}{
		"--number=5": {exitOK, "go 5 <nil>\n", ""},
		"fail":       {exitBadSettings, "", "thing: --database-url: postgres://u:xxxxx@db is not there\n"},
		"no-such":    {exitBadSettings, "", "thing: unexpected argument no-such (thing --help lists all)\n"},
	} {
		var out, errors bytes.Buffer
		if code := Run(t.Context(), "thing", "", new(asked), strings.Fields(args), &out, &errors); code != want.code || out.String() != want.out || errors.String() != want.errors {
			t.Errorf("%s: exit code %d, %q, %q", args, code, out.String(), errors.String())
		}
	}
}

func TestExitCode(t *testing.T) {
	for want, err := range map[int]error{
		exitOK: nil, exitFailed: errors.New("x"), exitBadSettings: fmt.Errorf("y: %w", BadSettingf("--addr", "in use")), exitDrift: fmt.Errorf("z: %w", ErrDrift),
	} {
		if got := exitCode(err); got != want {
			t.Errorf("exitCode(%v) = %d, want %d", err, got, want)
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
