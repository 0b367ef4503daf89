package testenv

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Help wants the help text of the program and those of its commands to be testdata/help.golden and testdata/help-commands.golden: see Golden.
func Help(t *testing.T, program string) {
	t.Helper()
	binary := Build(t, program)
	p := Run(t, binary, nil, "--help")
	if code := p.WaitWithin(t, 20*time.Second); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	Golden(t, "testdata/help.golden", p.Stdout())
	Golden(t, "testdata/help-commands.golden", helpOfCommands(t, binary, p.Stdout()))
}

// helpOfCommands is the help of every command that the program's help names.
func helpOfCommands(t *testing.T, binary, help string) string {
	t.Helper()
	_, list, _ := strings.Cut(help, "\nCommands:\n")
	list, _, found := strings.Cut(list, "\n\n")
	if !found {
		t.Fatalf("no list of commands in %q", help)
	}
	var all strings.Builder
	for entry := range strings.Lines(list) {
		name, _, _ := strings.Cut(strings.TrimPrefix(entry, "  "), " ")
		if name == "" { // the line before goes on
			continue
		}
		command := exec.Command(binary, name, "--help")
		command.Env = []string{} // nothing that says how wide a terminal is
		text, err := command.Output()
		if err != nil {
			t.Fatalf("%s --help: %v", name, err)
		}
		all.WriteString("$ " + name + " --help\n" + string(text) + "\n")
	}
	return all.String()
}
