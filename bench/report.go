package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// series are the values that one contestant reached, one per round.
type series []float64

func (s series) median() float64 { return s.quantile(0.5) }

func (s series) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	if q == 0.5 && len(sorted)%2 == 0 {
		return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// ratio divides round by round: what disturbs a machine disturbs neighbours in time alike.
func (s series) ratio(to series) series {
	var r series
	for i := range min(len(s), len(to)) {
		r = append(r, s[i]/to[i])
	}
	return r
}

// String shows the median, with the smallest and the largest value if there are several.
func (s series) String() string {
	if len(s) == 0 {
		return "–"
	}
	if len(s) == 1 {
		return number(s[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median()), number(slices.Min(s)), number(slices.Max(s)))
}

// number prints three significant digits, and whole thousands with separators.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case size >= 1000:
		text := fmt.Sprintf("%.0f", v)
		for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
			text = text[:i] + "," + text[i:]
		}
		return text
	case size >= 100 || size == 0:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 0.01:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.2g", v)
	}
}

// part is what a section found.
type part struct {
	section
	tables []table
	notes  []string
	took   time.Duration
	err    error
}

type table struct {
	head []string
	rows [][]string
}

// verdict is a budget and what was reached.
type verdict struct {
	what, target, got string
	met               bool
}

// report collects what the sections find.
type report struct {
	machine  string
	parts    []*part
	verdicts []verdict
}

func newReport(machine string) *report { return &report{machine: machine} }

func (r *report) begin(s section) { r.parts = append(r.parts, &part{section: s}) }

func (r *report) end(took time.Duration, err error) {
	p := r.current()
	p.took, p.err = took, err
	for _, t := range p.tables {
		fmt.Print(t.markdown(), "\n")
	}
}

func (r *report) current() *part { return r.parts[len(r.parts)-1] }

// table begins a table.
func (r *report) table(head ...string) {
	p := r.current()
	p.tables = append(p.tables, table{head: head})
}

// row adds a line to the table that was begun last.
func (r *report) row(cells ...any) {
	p := r.current()
	t := &p.tables[len(p.tables)-1]
	var line []string
	for _, cell := range cells {
		if v, ok := cell.(float64); ok {
			line = append(line, number(v))
			continue
		}
		line = append(line, fmt.Sprint(cell))
	}
	t.rows = append(t.rows, line)
}

func (r *report) note(format string, args ...any) {
	p := r.current()
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// atLeast and atMost hold a result against its budget.
func (r *report) atLeast(what string, got series, target float64, unit string) {
	r.verdicts = append(r.verdicts, verdict{what, "≥ " + number(target) + unit, got.String() + unit, got.median() >= target})
}

func (r *report) atMost(what string, got series, target float64, unit string) {
	r.verdicts = append(r.verdicts, verdict{what, "≤ " + number(target) + unit, got.String() + unit, got.median() <= target})
}

func (r *report) markdown() string {
	b := new(strings.Builder)
	fmt.Fprintf(b, "# Results\n\nWritten by `go run ./bench`; docs/performance.md says how to read it. Values are medians, with the smallest and the largest\n"+
		"in parentheses; ratios are taken round by round.\n\n%s\n", r.machine)
	if len(r.verdicts) > 0 {
		budgets := table{head: []string{"budget", "target", "reached", ""}}
		for _, v := range r.verdicts {
			budgets.rows = append(budgets.rows, []string{v.what, v.target, v.got, pick(v.met, "met", "**missed**")})
		}
		fmt.Fprintf(b, "## Budgets\n\n%s\n", budgets.markdown())
	}
	for _, p := range r.parts {
		fmt.Fprintf(b, "## %s\n\n%s%s (%.0f s).\n\n", p.name, strings.ToUpper(p.about[:1]), p.about[1:], p.took.Seconds())
		for _, t := range p.tables {
			fmt.Fprintln(b, t.markdown())
		}
		for _, note := range p.notes {
			fmt.Fprintf(b, "- %s\n", note)
		}
		if len(p.notes) > 0 {
			fmt.Fprintln(b)
		}
		if p.err != nil {
			fmt.Fprintf(b, "This section did not complete: %v\n\n", p.err)
		}
	}
	return b.String()
}

func (t table) markdown() string {
	b := new(strings.Builder)
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(t.head, " | "), strings.Repeat("---|", len(t.head)))
	for _, row := range t.rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
	return b.String()
}
