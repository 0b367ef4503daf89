package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/everflag/everflag/internal/admin/pages"
)

const (
	chartColumns = 180 // of equal duration; each shows the greatest value in it
	chartHeight  = 100
)

// windows are the durations that a chart may cover: the shortest that holds all there is, so that a program that has just started shows something.
var windows = [...]time.Duration{2 * time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// chart is a line over time, ready to be drawn.
type chart struct {
	Name      string
	Now, Most string // the last value and the greatest
	At        time.Time
	Top       string // what the upper edge stands for
	Lines     []line // without gaps in each
	Away      []band // when this replicator was not ready
	Window    string
	Columns   int
	Height    int
}

// line is a run of points, and the area below it.
type line struct{ Points, Area string }

// band is a span of columns.
type band struct{ X, Width int }

// scale says how a value is written, and the least value that the upper edge stands for.
type scale struct {
	text  func(float64) string
	round func(float64) float64
	least float64
}

func seconds() scale {
	return scale{func(v float64) string { return pages.Took(time.Duration(v * float64(time.Second))) }, func(v float64) float64 { return roundUp(v, 10) }, 0.1}
}

func bytes(per string, least float64) scale {
	return scale{func(v float64) string { return pages.Size(int64(v)) + per }, func(v float64) float64 { return roundUp(v, 1024) }, least}
}

// roundUp is the next of 1, 2, 5, 10 … within a unit of the base.
func roundUp(v, base float64) float64 {
	unit := 1e-3
	if base == 1024 {
		unit = 1
	}
	for v > unit*base {
		unit *= base
	}
	for _, step := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500} {
		if v <= step*unit {
			return step * unit
		}
	}
	return base * unit
}

// draw makes a chart of the moments, oldest first. The value is not a number where it is not known.
func draw(name string, moments []moment, now time.Time, s scale, value func(i int) float64) chart {
	window := windows[len(windows)-1]
	if len(moments) > 0 {
		for i := len(windows) - 1; i >= 0 && now.Sub(moments[0].at) <= windows[i]; i-- {
			window = windows[i]
		}
	}
	c := chart{Name: name, Now: "not known", Window: pages.Count(int(window.Minutes()), "minute"), Columns: chartColumns, Height: chartHeight}
	values, away := [chartColumns]float64{}, [chartColumns]bool{}
	for i := range values {
		values[i] = math.NaN()
	}
	most := math.NaN()
	for i, m := range moments {
		column := chartColumns - 1 - int(now.Sub(m.at)*chartColumns/window)
		if column < 0 || column >= chartColumns {
			continue
		}
		v := value(i)
		values[column] = greater(values[column], v)
		away[column] = away[column] || !m.ready
		if greater(most, v) != most && !math.IsNaN(v) {
			most, c.At = v, m.at
		}
		if c.Now = "not known"; !math.IsNaN(v) {
			c.Now = s.text(v)
		}
	}
	bridge(values[:], away[:], moments, now, window)
	top := s.least
	if !math.IsNaN(most) {
		c.Most, top = s.text(most), max(s.round(most), s.least)
	}
	c.Top = strings.Replace(s.text(top), ".0 ", " ", 1)
	c.trace(values[:], top)
	c.shade(away[:])
	return c
}

// bridge fills the columns between two looks where there are more columns than looks.
func bridge(values []float64, away []bool, moments []moment, now time.Time, window time.Duration) {
	if window/chartColumns >= historyEvery || len(moments) == 0 {
		return
	}
	reach := int(historyEvery*chartColumns/window) + 1
	last := -1
	for i, v := range values {
		if math.IsNaN(v) {
			continue
		}
		if last >= 0 && i-last <= reach+1 {
			for between := last + 1; between < i; between++ {
				values[between], away[between] = values[last], away[last]
			}
		}
		last = i
	}
}

func greater(a, b float64) float64 {
	if math.IsNaN(a) || b > a {
		return b
	}
	return a
}

// trace draws the lines, one for each run of known values.
func (c *chart) trace(values []float64, top float64) {
	start := -1
	for i := 0; i <= len(values); i++ {
		if i < len(values) && !math.IsNaN(values[i]) {
			if start < 0 {
				start = i
			}
			continue
		}
		if start < 0 {
			continue
		}
		var points strings.Builder
		for x := start; x < i; x++ {
			fmt.Fprintf(&points, "%d,%.1f ", x, chartHeight*(1-values[x]/top))
		}
		end := i - 1
		if end == start { // a lonely value is a short line
			end++
			fmt.Fprintf(&points, "%d,%.1f ", end, chartHeight*(1-values[start]/top))
		}
		text := strings.TrimSpace(points.String())
		c.Lines = append(c.Lines, line{Points: text, Area: fmt.Sprintf("%d,%d %s %d,%d", start, chartHeight, text, end, chartHeight)})
		start = -1
	}
}

func (c *chart) shade(away []bool) {
	for i := 0; i < len(away); i++ {
		if !away[i] {
			continue
		}
		start := i
		for i < len(away) && away[i] {
			i++
		}
		c.Away = append(c.Away, band{start, i - start})
	}
}
