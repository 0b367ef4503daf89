package main

import (
	"io"
	"strconv"
	"time"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/command"
)

// explained is what the command that explains prints as JSON.
type explained struct {
	eval.Explanation
	Definitions provenance `json:"definitions"`
}

// provenance is where the definitions came from, and how old they may be.
type provenance struct {
	Source       store.Origin `json:"source"` // Redis or the file
	Position     string       `json:"position"`
	AgeSeconds   float64      `json:"age_seconds"`
	SnapshotFile string       `json:"snapshot_file,omitempty"`
	SnapshotAt   *time.Time   `json:"snapshot_at,omitempty"`
}

func provenanceOf(status store.Status) provenance {
	p := provenance{Source: store.OriginRedis, Position: status.Position, AgeSeconds: status.AgeSeconds}
	if status.Source == store.OriginFile {
		p.Source, p.SnapshotFile, p.SnapshotAt = store.OriginFile, status.SnapshotFile, status.SnapshotAt
	}
	return p
}

// writeText writes the explanation for people.
func (e *explained) writeText(out io.Writer, now time.Time) error {
	sheet := command.NewSheet(out)
	line := func(name, format string, args ...any) { sheet.Line(command.Plain, name, format, args...) }
	v := indexView{Status: store.Status{AgeSeconds: e.Definitions.AgeSeconds, Position: e.Definitions.Position}, Now: now}
	if at := e.Definitions.SnapshotAt; at != nil {
		line("definitions", "from the snapshot file %s, written %s, %s", e.Definitions.SnapshotFile, at.UTC().Format(time.RFC3339), v.Ago(at))
	} else {
		line("definitions", "from Redis")
	}
	if e.Definitions.AgeSeconds > 0 {
		sheet.Line(command.Warn, "", "%s: no replicator confirms that they follow Postgres", v.Age())
	} else {
		sheet.Line(command.Good, "", "%s", v.Age())
	}
	line("position", "%s in the log of Postgres", v.LSN())
	line("team", "%d, version %s", e.Team, e.Version)
	if e.Errors {
		sheet.Line(command.Bad, "answer", "errorsWhileComputingFlags true: clients keep what they had of flags that failed")
	} else {
		line("answer", "errorsWhileComputingFlags false")
	}
	for i := range e.Flags {
		writeFlag(sheet, &e.Flags[i])
	}
	return sheet.Print()
}

func writeFlag(sheet *command.Sheet, f *eval.FlagExplanation) {
	line := func(name, format string, args ...any) { sheet.Line(command.Plain, name, format, args...) }
	outcome, mood := strconv.FormatBool(f.Enabled), command.Plain
	switch {
	case f.Omitted != "" && f.Reason == "":
		outcome = "not in the answer: " + f.Omitted
	case f.Failed:
		outcome, mood = "failed", command.Bad
	case f.Variant != nil:
		outcome, mood = strconv.Quote(*f.Variant), command.Good
	case f.Enabled:
		mood = command.Good
	}
	line("", "")
	sheet.Line(mood, "flag", "%s (%d): %s", pages.Clip(maxKey, f.Key), f.ID, outcome)
	if f.Omitted != "" && f.Reason != "" {
		line("", "not in the answer: %s", f.Omitted)
	}
	if f.Reason != "" {
		line("because", "%s (%s)", f.Description, f.Reason)
	}
	last := 0
	for _, step := range f.Steps {
		where, condition := "", 0
		if step.Condition != nil {
			condition = *step.Condition + 1
		}
		if condition != last { // named once
			where, last = "condition "+strconv.Itoa(condition), condition
		}
		text := step.What
		if step.Hash != nil {
			text += " at " + strconv.FormatFloat(*step.Hash, 'g', -1, 64)
		}
		if step.Result != "" {
			text += ": " + step.Result
		}
		sheet.Line(map[string]command.Mood{"true": command.Good, "unknown": command.Bad}[step.Result], where, "%s", text)
	}
	if f.Payload != "" {
		line("payload", "%s", pages.Clip(maxPayload, f.Payload))
	}
}

// Of a key and a payload the text shows this much, without control characters; JSON has all of it.
const (
	maxKey     = 400
	maxPayload = 2000
)
