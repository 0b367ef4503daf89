package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Completion is the command that prints what makes a shell complete the program's commands and flags.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Which shell: ${enum}."`
}

// Help implements kong's HelpProvider.
func (Completion) Help() string {
	return "Add to the start file of the shell, with the program's name for PROGRAM:\n\n" +
		"bash: source <(PROGRAM completion bash)\n\nzsh, after compinit: source <(PROGRAM completion zsh)\n\nfish: PROGRAM completion fish | source"
}

// completeArgument asks for candidates: the words before the cursor follow, the last of which is being typed. Only the scripts use it.
const completeArgument = "__complete"

// scripts ask the program for candidates, a line each, with a tab and a description. Where it has none, files are completed.
var scripts = map[string]string{
	"bash": `_PROGRAM() {
  local IFS=$'\n'
  COMPREPLY=($("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1))
}
complete -o default -F _PROGRAM PROGRAM
`,
	"zsh": `#compdef PROGRAM
_PROGRAM() {
  local line
  local -a candidates
  for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $line ]] && candidates+=("${line/$'\t'/:}")
  done
  if (( $#candidates )); then _describe PROGRAM candidates; else _files; fi
}
compdef _PROGRAM PROGRAM
`,
	"fish": `function __PROGRAM_complete
  set -l words (commandline -opc) (commandline -ct)
  $words[1] __complete $words[2..] 2>/dev/null
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
complete -c PROGRAM -n 'not __PROGRAM_complete | string length -q' -F
`,
}

// Print writes the shell's script.
func (c Completion) Print(out io.Writer, program string) error {
	_, err := io.WriteString(out, strings.ReplaceAll(scripts[c.Shell], "PROGRAM", program))
	return err
}

// candidate is a word that could be meant.
type candidate struct{ word, help string }

// printCandidates answers a shell.
func printCandidates(out io.Writer, root *kong.Node, words []string) {
	for _, c := range candidates(root, words) {
		help, _, _ := strings.Cut(c.help, ". ") // the first sentence
		fmt.Fprintf(out, "%s\t%s\n", c.word, strings.TrimSuffix(help, "."))
	}
}

func candidates(root *kong.Node, words []string) (found []candidate) {
	current := ""
	if len(words) > 0 {
		words, current = words[:len(words)-1], words[len(words)-1]
	}
	// Bash takes --flag=value for three words.
	if current == "=" {
		current = ""
	}
	words = slices.DeleteFunc(slices.Clone(words), func(word string) bool { return word == "=" })

	node, flags := root, root.Flags
	var pending *kong.Flag // the one whose value is next
	for _, word := range words {
		switch {
		case pending != nil:
			pending = nil
		case strings.HasPrefix(word, "-"):
			if f := flagNamed(flags, word); f != nil && !f.IsBool() {
				pending = f
			}
		default:
			if i := slices.IndexFunc(node.Children, func(child *kong.Node) bool { return child.Name == word }); i >= 0 {
				node = node.Children[i]
				flags = append(slices.Clone(node.Flags), flags...)
			}
		}
	}

	offer := func(word, help string) {
		if strings.HasPrefix(word, current) {
			found = append(found, candidate{word, help})
		}
	}
	name, _, assigned := strings.Cut(current, "=")
	switch {
	case pending != nil:
		for _, value := range valuesOf(pending.Value) {
			offer(value, "")
		}
	case assigned:
		if f := flagNamed(flags, name); f != nil {
			for _, value := range valuesOf(f.Value) {
				offer(name+"="+value, "")
			}
		}
	case strings.HasPrefix(current, "-"):
		for _, f := range flags {
			if !slices.Contains(words, "--"+f.Name) || f.IsCumulative() {
				offer("--"+f.Name, f.Help)
			}
		}
	default:
		for _, child := range node.Children {
			offer(child.Name, child.Help)
		}
		for _, argument := range node.Positional {
			for _, value := range valuesOf(argument) {
				offer(value, "")
			}
		}
	}
	return found
}

func flagNamed(flags []*kong.Flag, word string) *kong.Flag {
	for _, f := range flags {
		if word == "--"+f.Name || f.Short != 0 && word == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}

func valuesOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return strings.Split(v.Enum, ",")
}
