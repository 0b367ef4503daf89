package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSeries(t *testing.T) {
	s := series{3, 1, 2}
	if got := s.median(); got != 2 {
		t.Errorf("median %v", got)
	}
	if got := (series{4, 1, 2, 3}).median(); got != 2.5 {
		t.Errorf("median of an even number %v", got)
	}
	if got := s.quantile(0.99); got != 3 {
		t.Errorf("p99 %v", got)
	}
	if got := s.ratio(series{6, 2, 2}); got.String() != "0.50 (0.50–1.00)" {
		t.Errorf("ratio %v", got)
	}
	for value, want := range map[float64]string{0: "0", 0.00123: "0.0012", 0.5: "0.50", 12.34: "12.3", 123.4: "123", 1234.5: "1,234", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := number(value); got != want {
			t.Errorf("number(%v) = %q, want %q", value, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	r := newReport("- commit: x\n")
	r.begin(section{name: "one", about: "what it is"})
	r.table("a", "b")
	r.row("x", 1234.5)
	r.atLeast("fast", series{0.9, 0.7}, 0.8, "×")
	r.atMost("slow", series{3}, 2, " ms")
	r.note("a note")
	r.end(2*time.Second, errors.New("broken"))
	text := r.markdown()
	for _, want := range []string{
		"| x | 1,234 |", "| fast | ≥ 0.80× | 0.80 (0.70–0.90)× | met |", "| slow | ≤ 2.00 ms | 3.00 ms | **missed** |", "- a note", "What it is (2 s).", "did not complete: broken",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestManyTeams(t *testing.T) {
	withFlags, all := 0, 0
	for team, err := range manyTeams(24, 214) {
		if err != nil {
			t.Fatal(err)
		}
		all++
		switch len(team.Rows) {
		case 11:
			withFlags++
		case 1:
		default:
			t.Errorf("team %d has %d rows", team.Team, len(team.Rows))
		}
	}
	if withFlags != 24 || all != 238 {
		t.Errorf("%d of %d teams have flags", withFlags, all)
	}
}

// The library must answer what we answer, or the comparison is worth nothing.
func TestAgree(t *testing.T) {
	ours, definitions := evaluator(20, libraryFilters)
	client, stop, err := library(definitions)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := agree(ours(), client, libraryRequest(), 20); err != nil {
		t.Error(err)
	}
	wrong := bytes.Replace(bytes.Clone(ours()), []byte(`"enabled":true`), []byte(`"enabled":false`), -1)
	if err := agree(wrong, client, libraryRequest(), 20); err == nil {
		t.Error("a wrong answer is not noticed")
	}
}

// Floors are worth something only as long as anybody can see that they do nothing.
func TestFloorsAreSmall(t *testing.T) {
	files, err := filepath.Glob("floors/*/main.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n >= 60 {
			t.Errorf("%s has %d lines", file, n)
		}
	}
}
