package eval

import (
	"strconv"
	"strings"
	"time"
)

// The layouts that the lenient parser knows beyond the usual ones. Times and zones after the date are split off first.
var (
	dateLayouts = [...]string{
		"2006-1-2", "2006-Jan-2", "2006/1/2", "2006.1.2", "2006.1", "1/2/2006", "1/2/06", "1-2-2006", "1-2-06", "1.2.2006", "1.2.06",
		"Jan 2, 2006", "Jan 2, 06", "Jan 2 2006", "January 2, 2006", "January 2 2006", "2 Jan 2006", "2 Jan 06", "2 January 2006",
		"Mon, 2 Jan 2006", "060102", "2006年1月2日",
	}
	timeLayouts = [...]string{
		"15:04:05", "15:04", "3:04:05 PM", "3:04 PM", "3:04:05PM", "3:04PM", "15时04分05秒", "15时04分",
	}
	// zoneOffsets are the abbreviations that stand for one offset, in hours.
	zoneOffsets = map[string]int{
		"UTC": 0, "GMT": 0, "Z": 0, "UT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
	}
)

const (
	maxDateText    = 64 // longer texts are no dates
	secondDigits   = 10 // of a count of seconds since 1970, and of finer counts:
	milliDigits    = 13
	nanoDigits     = 19
	nanosPerSecond = 1_000_000_000
)

// parseLenient reads what people write as dates. A text without zone is taken as UTC, one without time as that date at the present time of day, one
// without date as that time today: PostHog's server does so with everything that is not in one of the usual forms.
func parseLenient(text string, now time.Time) (time.Time, bool) {
	text = strings.TrimSpace(text)
	if len(text) > maxDateText || text == "" {
		return time.Time{}, false
	}
	if allDigits(text) {
		if t, ok := parseCount(text); ok {
			return t, true
		}
	}
	now = now.UTC()
	text, zone := splitZone(text)
	date, clock := splitTime(text)
	day, hasDay := parseAny(dateLayouts[:], date)
	if !hasDay && date != "" {
		return time.Time{}, false
	}
	of, hasTime := parseAny(timeLayouts[:], clock)
	if !hasTime && clock != "" || !hasDay && !hasTime {
		return time.Time{}, false
	}
	if !hasDay {
		day = now.Add(time.Duration(zone) * time.Second)
	}
	if !hasTime {
		of = now
	}
	t := time.Date(day.Year(), day.Month(), day.Day(), of.Hour(), of.Minute(), of.Second(), of.Nanosecond(), time.UTC)
	return t.Add(-time.Duration(zone) * time.Second), true
}

// parseCount reads a count of seconds, milliseconds or nanoseconds since 1970.
func parseCount(text string) (time.Time, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	switch len(text) {
	case secondDigits:
		return time.Unix(n, 0), true
	case milliDigits:
		return time.UnixMilli(n), true
	case nanoDigits:
		return time.Unix(n/nanosPerSecond, n%nanosPerSecond), true
	}
	return time.Time{}, false
}

func parseAny(layouts []string, text string) (time.Time, bool) {
	if text == "" {
		return time.Time{}, false
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// splitZone takes a zone off the end of a text that has a time or a date before it; the offset is in seconds.
func splitZone(text string) (rest string, offset int) {
	if i := strings.LastIndexByte(text, ' '); i > 0 {
		if hours, ok := zoneOffsets[strings.ToUpper(text[i+1:])]; ok {
			return strings.TrimSpace(text[:i]), hours * 3600
		}
	}
	i := strings.LastIndexAny(text, "+-")
	if i < len("2006-01-02") {
		return text, 0
	}
	digits := strings.ReplaceAll(text[i+1:], ":", "")
	if !allDigits(digits) || len(digits) != 2 && len(digits) != 4 {
		return text, 0
	}
	n, _ := strconv.Atoi(digits) // at most four digits
	if len(digits) == 2 {
		n *= 100
	}
	offset = (n/100*60 + n%100) * 60
	if text[i] == '-' {
		offset = -offset
	}
	return strings.TrimSpace(text[:i]), offset
}

// splitTime splits the time of day off the end of a text. Months and half-days come out as the layouts spell them.
func splitTime(text string) (date, clock string) {
	at := strings.IndexByte(text, ':')
	if at < 0 {
		if i := strings.Index(text, "日"); i > 0 && i+len("日") < len(text) {
			return text[:chineseEnd(i)], strings.TrimSpace(text[chineseEnd(i):])
		}
		return tidyDate(text), ""
	}
	start := at
	for start > 0 && text[start-1] >= '0' && text[start-1] <= '9' {
		start--
	}
	clock = strings.ToUpper(strings.TrimSpace(text[start:]))
	date = strings.TrimSuffix(strings.TrimRight(text[:start], " ,T"), " at")
	return tidyDate(date), clock
}

func chineseEnd(i int) int {
	return i + len("日")
}

func tidyDate(date string) string {
	date = strings.TrimRight(date, " ,")
	return strings.Replace(date, ". ", " ", 1) // "oct. 7, 1970"
}
