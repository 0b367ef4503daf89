package eval

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// clock is what dates are relative to: the moment of the request and the team's time zone.
type clock struct {
	now  time.Time
	zone *time.Location
}

// date reads a date as PostHog does: relative to now, with an offset, in the team's time zone, or in one of many other forms, then in UTC.
func (c clock) date(text string) (time.Time, bool) {
	if number, unit, ok := relativeParts(text); ok {
		wall, ok := back(wallClock(c.now.In(c.zone)), number, unit)
		if !ok {
			return time.Time{}, false
		}
		return instant(wall, c.zone)
	}
	if t, ok := parseRFC3339(text); ok {
		return t, true
	}
	if wall, ok := parseNaive(text); ok {
		return instant(wall, c.zone)
	}
	return parseLenient(text, c.now)
}

// fixedDate is date for texts whose meaning does not depend on the moment of the request.
func fixedDate(text string, zone *time.Location) (time.Time, bool) {
	if _, _, relative := relativeParts(text); relative {
		return time.Time{}, false
	}
	if t, ok := parseRFC3339(text); ok {
		return t, true
	}
	if wall, ok := parseNaive(text); ok {
		return instant(wall, zone)
	}
	return time.Time{}, false
}

const maxRelative = 10_000 // a relative date reaches less far back than this many units

// relativeParts splits a relative date like -7d. The sign is ignored: such a date is always in the past.
func relativeParts(text string) (number int, unit byte, ok bool) {
	text = strings.TrimPrefix(text, "-")
	if len(text) < 2 || !allDigits(text[:len(text)-1]) {
		return 0, 0, false
	}
	unit = text[len(text)-1]
	if strings.IndexByte("hdwmy", unit) < 0 {
		return 0, 0, false
	}
	number, err := strconv.Atoi(text[:len(text)-1])
	return number, unit, err == nil && number < maxRelative
}

// back steps back from a wall clock. Months and years are stepped one at a time, so that the day is cut to each month's length on the way.
func back(wall time.Time, number int, unit byte) (time.Time, bool) {
	switch unit {
	case 'h':
		return wall.Add(-time.Duration(number) * time.Hour), true
	case 'd':
		return wall.AddDate(0, 0, -number), true
	case 'w':
		return wall.AddDate(0, 0, -7*number), true
	}
	year, month, day := wall.Date()
	for range number {
		if unit == 'y' {
			year--
		} else if month--; month == 0 {
			year, month = year-1, time.December
		}
		day = min(day, daysIn(year, month))
	}
	hour, minute, second := wall.Clock()
	return time.Date(year, month, day, hour, minute, second, wall.Nanosecond(), time.UTC), true
}

func daysIn(year int, month time.Month) int {
	return time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// wallClock is what the clock on the wall shows, as a time in UTC.
func wallClock(t time.Time) time.Time {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	return time.Date(year, month, day, hour, minute, second, t.Nanosecond(), time.UTC)
}

// instant is the moment at which the wall clock of the zone shows the time: the first one if there are two, none in the gap of a change to summer time.
func instant(wall time.Time, zone *time.Location) (first time.Time, ok bool) {
	const aroundChange = 36 * time.Hour
	for _, near := range [...]time.Duration{-aroundChange, aroundChange} {
		_, offset := wall.Add(near).In(zone).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second)
		if wallClock(t.In(zone)).Equal(wall) && (!ok || t.Before(first)) {
			first, ok = t, true
		}
	}
	return first, ok
}

const (
	minUnix = -8_334_601_228_800 // the first and the last second that PostHog's server can represent
	maxUnix = 8_210_266_876_799
)

// unixDate is the moment a number of seconds after 1970.
func unixDate(seconds float64) (time.Time, bool) {
	if math.IsNaN(seconds) {
		return time.Unix(0, 0), true
	}
	whole := math.Floor(seconds)
	if whole < minUnix || whole > maxUnix {
		return time.Time{}, false
	}
	nanos := math.Round(math.Mod(seconds, 1) * 1e9)
	return time.Unix(int64(whole), int64(max(nanos, 0))), true
}

// scanner reads the fields of a date.
type scanner struct {
	rest string
	ok   bool
}

// number reads at least least and at most most digits; blanks before them are skipped unless every digit is required.
func (s *scanner) number(least, most int) int {
	if least < most {
		s.rest = strings.TrimLeft(s.rest, " \t\n\v\f\r")
	}
	i := 0
	for i < len(s.rest) && i < most && s.rest[i] >= '0' && s.rest[i] <= '9' {
		i++
	}
	if i < least {
		s.ok = false
		return 0
	}
	n, _ := strconv.Atoi(s.rest[:i]) // at most four digits
	s.rest = s.rest[i:]
	return n
}

func (s *scanner) skip(set string) bool {
	if s.rest != "" && strings.IndexByte(set, s.rest[0]) >= 0 {
		s.rest = s.rest[1:]
		return true
	}
	return false
}

func (s *scanner) need(set string) {
	if !s.skip(set) {
		s.ok = false
	}
}

// fraction reads the digits after a decimal point as nanoseconds.
func (s *scanner) fraction() int {
	nanos, scale, digits := 0, 100_000_000, 0
	for s.rest != "" && s.rest[0] >= '0' && s.rest[0] <= '9' {
		nanos += int(s.rest[0]-'0') * scale
		scale /= 10
		digits++
		s.rest = s.rest[1:]
	}
	s.ok = s.ok && digits > 0
	return nanos
}

func valid(year, month, day, hour, minute, second int) bool {
	return month >= 1 && month <= 12 && day >= 1 && day <= daysIn(year, time.Month(month)) && hour < 24 && minute < 60 && second <= 60
}

// parseRFC3339 reads a date with time and offset.
func parseRFC3339(text string) (time.Time, bool) {
	if len(text) < len("2006-01-02T15:04:05Z") {
		return time.Time{}, false
	}
	s := scanner{text, true}
	year := s.number(4, 4)
	s.need("-")
	month := s.number(2, 2)
	s.need("-")
	day := s.number(2, 2)
	s.need("Tt ")
	hour := s.number(2, 2)
	s.need(":")
	minute := s.number(2, 2)
	s.need(":")
	second := s.number(2, 2)
	nanos := 0
	if s.skip(".") {
		nanos = s.fraction()
	}
	offset := 0
	if !s.skip("Zz") {
		negative := s.skip("-")
		if !negative {
			s.need("+")
		}
		h := s.number(2, 2)
		s.need(":")
		m := s.number(2, 2)
		s.ok = s.ok && h < 24 && m < 60
		offset = (h*60 + m) * 60
		if negative {
			offset = -offset
		}
	}
	if !s.ok || s.rest != "" || !valid(year, month, day, hour, minute, second) {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC).Add(-time.Duration(offset) * time.Second), true
}

// parseNaive reads a date, perhaps with a time, that names no zone.
func parseNaive(text string) (time.Time, bool) {
	s := scanner{text, true}
	year := s.number(1, 4)
	s.need("-")
	month := s.number(1, 2)
	s.need("-")
	day := s.number(1, 2)
	if !s.ok {
		return time.Time{}, false
	}
	var hour, minute, second, nanos int
	if s.rest != "" {
		if !s.skip("T") {
			s.rest = strings.TrimLeft(s.rest, " \t\n\v\f\r")
		}
		hour = s.number(1, 2)
		s.need(":")
		minute = s.number(1, 2)
		if s.skip(":") {
			second = s.number(1, 2)
			if s.skip(".") {
				nanos = s.fraction()
			}
		}
	}
	if !s.ok || s.rest != "" || !valid(year, month, day, hour, minute, second) {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC), true
}
