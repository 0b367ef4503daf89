package command

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// Build is what a program is made of.
type Build struct {
	Program  string `json:"program"`
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"` // empty where the build did not know it, as in an image
	Date     string `json:"date,omitempty"`   // of the commit
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// BuildOf reads what the compiler has noted. The release is what the linker was told.
func BuildOf(program, release string) Build {
	b := Build{Program: program, Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is one line for people.
func (b Build) String() string { return b.Program + " " + b.Text() }

// Text is the line without the program's name.
func (b Build) Text() string {
	text := b.Version
	if b.Commit != "" {
		text += ", commit " + b.Commit[:min(len(b.Commit), 12)]
		if b.Modified {
			text += " and changes"
		}
		text += " of " + b.Date
	}
	return text + ", " + b.Go + ", " + b.Platform
}

// Format is for commands that print something: for people, or for programs.
type Format struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Print writes a value as JSON, or as its text.
func (f Format) Print(out io.Writer, value fmt.Stringer) error {
	if f.JSON {
		return PrintJSON(out, value)
	}
	_, err := fmt.Fprintln(out, value)
	return err
}

// PrintJSON writes a value as JSON that people can read, too.
func PrintJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
