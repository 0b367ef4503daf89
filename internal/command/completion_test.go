package command

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

type completed struct {
	Level string   `enum:"debug,info" default:"info" help:"How much. A second sentence."`
	Nets  []string `help:"Networks."`
	Quiet bool     `help:"Say nothing."`
	File  string   `help:"A file."`

	Start      struct{}   `cmd:"" default:"withargs" help:"Start it."`
	Status     Format     `cmd:"" help:"Show it."`
	Completion Completion `cmd:"" help:"Print a script."`
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                          "start status completion",
		"st":                        "start status",
		"status --":                 "--json --help --level --nets --quiet --file",
		"--l":                       "--level",
		"--level debug --l":         "",
		"--nets a --n":              "--nets",
		"--level ":                  "debug info",
		"--level d":                 "debug",
		"--level =":                 "debug info", // as bash says it
		"--level = d":               "debug",
		"--level=d":                 "--level=debug", // as the others do
		"--level = debug --quiet s": "start status",
		"--file ":                   "",
		"--file x completion ":      "bash zsh fish",
		"completion f":              "fish",
		"nonsense --le":             "--level",
	} {
		words := strings.Split(line, " ")
		var s completed
		var out bytes.Buffer
		if chosen, err := parse("thing", "", &s, append([]string{completeArgument}, words...), &out, &out); chosen != nil || err != nil {
			t.Fatalf("%q: %v, %v", line, chosen, err)
		}
		var got []string
		for candidate := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(candidate, "\t")
			got = append(got, word)
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("candidates for %q are %q, want %q", line, text, want)
		}
	}
	var out bytes.Buffer
	if _, err := parse("thing", "", &completed{}, []string{completeArgument, "--lev"}, &out, &out); err != nil || out.String() != "--level\tHow much\n" {
		t.Errorf("a candidate reads %q, %v", out.String(), err)
	}
}

// TestCompletionInShells sources the scripts, with a program that shows what it is asked.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := "#!/bin/sh\nprintf 'asked' >&2; case \"$*\" in\n'__complete --file '*) ;;\n*) printf '%s\\tWhat it is: told\\n' \"$(echo \"$*\" | tr ' ' '_')\";;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "thing"), []byte(program), 0o700); err != nil { //nolint:gosec // because it is to run
		t.Fatal(err)
	}
	for shell, tests := range map[string]map[string]string{
		"bash": {
			`COMP_WORDS=(thing --level = d); COMP_CWORD=3; _thing; printf '%s\n' "${COMPREPLY[@]}"`: "__complete_--level_=_d\n",
			`COMP_WORDS=(thing --file ''); COMP_CWORD=2; _thing; echo ${#COMPREPLY[@]}`:             "0\n",
			`complete -p thing`: "complete -o default -F _thing thing\n",
		},
		"zsh": {
			`words=(thing --level d); CURRENT=3; _thing`: "__complete_--level_d:What it is: told\n",
			`words=(thing --file ''); CURRENT=3; _thing`: "files\n",
		},
		"fish": {
			`complete -C 'thing __'`:                    "__complete___\tWhat it is: told\n",
			`complete -C 'thing --file ./t' | cut -f 1`: "./thing\n",
		},
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			binary := testenv.Tool(t, shell, shell)
			var script bytes.Buffer
			if err := (Completion{Shell: shell}).Print(&script, "thing"); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "completion."+shell)
			if err := os.WriteFile(path, script.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			for test, want := range tests {
				source := "source " + path + "\n" + test
				if shell == "zsh" { // its own functions need a terminal
					source = "compdef() { : }; _describe() { print -l -- \"${(@P)2}\" }; _files() { print files }\n" + source
				}
				c := exec.Command(binary, "-c", source)
				c.Dir = dir
				c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir)
				if got, err := c.Output(); err != nil || string(got) != want {
					t.Errorf("%s\nprints %q, want %q; %v", test, got, want, err)
				}
			}
		})
	}
}
