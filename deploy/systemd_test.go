package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

var units = []string{"everflag-replicator.service", "everflag-decide.service"}

func TestUnits(t *testing.T) {
	manual := read(t, "../docs/operations.md")
	for _, unit := range units {
		text := read(t, "systemd/"+unit)
		program := strings.TrimSuffix(strings.TrimPrefix(unit, "everflag-"), ".service")
		for _, line := range []string{
			"ExecStart=/usr/local/bin/" + program + " ", "EnvironmentFile=/etc/everflag/" + program + ".env", "DynamicUser=yes", "NoNewPrivileges=yes",
			"ProtectSystem=strict", "CapabilityBoundingSet=\n", "Restart=on-failure", "RestartPreventExitStatus=2",
		} {
			if !strings.Contains(text, "\n"+line) {
				t.Errorf("%s lacks %q", unit, line)
			}
		}
		for _, file := range regexp.MustCompile(`(?m)^(?:EnvironmentFile=|LoadCredential=.*:)/etc/everflag/(.*)$`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(manual, "`"+file[1]+"`") {
				t.Errorf("%s wants %s, of which the manual does not tell", unit, file[1])
			}
		}
	}
}

// TestUnitsVerify asks systemd, with the programs in a place where it finds them.
func TestUnitsVerify(t *testing.T) {
	analyze := testenv.Tool(t, "systemd", "systemd-analyze")
	dir := t.TempDir()
	for _, unit := range units {
		program := strings.TrimSuffix(strings.TrimPrefix(unit, "everflag-"), ".service")
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/true\n"), 0o755); err != nil { //nolint:gosec // because it must be executable
			t.Fatal(err)
		}
		text := strings.ReplaceAll(read(t, "systemd/"+unit), "/usr/local/bin", dir)
		if err := os.WriteFile(filepath.Join(dir, unit), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, unit)).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}
