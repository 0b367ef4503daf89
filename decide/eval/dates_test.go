package eval

import (
	"math"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/flagcache"
)

func TestDates(t *testing.T) {
	losAngeles, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2024, time.March, 31, 20, 30, 40, 500, time.UTC)
	for _, c := range []struct {
		text string
		zone *time.Location
		want string // "" = no date
	}{
		{"2024-06-01", time.UTC, "2024-06-01T00:00:00Z"},
		{"2024-06-01", losAngeles, "2024-06-01T07:00:00Z"},
		{"2024-6-1 3:04", losAngeles, "2024-06-01T10:04:00Z"},
		{"2024-06-01T03:04:05.25", losAngeles, "2024-06-01T10:04:05.25Z"},
		{"2024-06-01T03:04:05.1234567891234", time.UTC, "2024-06-01T03:04:05.123456789Z"},
		{"2024-06-01T03:04:05+02:30", losAngeles, "2024-06-01T00:34:05Z"},
		{"2024-06-01t03:04:05z", losAngeles, "2024-06-01T03:04:05Z"},
		{"2024-11-03 01:30", losAngeles, "2024-11-03T08:30:00Z"}, // twice: the first
		{"2024-03-10 02:30", losAngeles, ""},                     // never
		{"2023-02-29", time.UTC, ""},
		{"2024-13-01", time.UTC, ""},
		{"2024-06-01T24:00:00Z", time.UTC, ""},
		{"", time.UTC, ""},
		{"soon", time.UTC, ""},
		{"2024-06-01T03:04:05,5Z", time.UTC, ""},
		{"-1mStart", time.UTC, ""},
		{"7D", time.UTC, ""},
		{"--7d", time.UTC, ""},
		{"10000d", time.UTC, ""},
		// Relative dates are on the wall clock of the zone; there it is 13:30:40.
		{"-1d", losAngeles, "2024-03-30T20:30:40.0000005Z"},
		{"22d", losAngeles, "2024-03-09T21:30:40.0000005Z"}, // before the change to summer time
		{"1m", time.UTC, "2024-02-29T20:30:40.0000005Z"},
		{"2m", time.UTC, "2024-01-29T20:30:40.0000005Z"},
		{"1y", time.UTC, "2023-03-31T20:30:40.0000005Z"},
		{"0h", losAngeles, "2024-03-31T20:30:40.0000005Z"},
		// The lenient parser: UTC, and the present time of day where there is none.
		{"May 8, 2009 5:57:51 PM", losAngeles, "2009-05-08T17:57:51Z"},
		{"September 17, 2012 10:09am", losAngeles, "2012-09-17T10:09:00Z"},
		{"September 17, 2012 at 10:09am PST", losAngeles, "2012-09-17T18:09:00Z"},
		{"12 Feb 2006, 19:17", time.UTC, "2006-02-12T19:17:00Z"},
		{"oct. 7, 1970", time.UTC, "1970-10-07T20:30:40.0000005Z"},
		{"4/8/2014 22:05", time.UTC, "2014-04-08T22:05:00Z"},
		{"2014/04/08 22:05:01.5", time.UTC, "2014-04-08T22:05:01.5Z"},
		{"2014-04-26 13:13:43 +0800", losAngeles, "2014-04-26T05:13:43Z"},
		{"2017-11-25 13:31 PST", time.UTC, "2017-11-25T21:31:00Z"},
		{"2019-11-29 08:08:05-08", time.UTC, "2019-11-29T16:08:05Z"},
		{"Wed, 02 Jun 2021 06:31:39 GMT", losAngeles, "2021-06-02T06:31:39Z"},
		{"171113 14:14:20", time.UTC, "2017-11-13T14:14:20Z"},
		{"2014年04月08日 11时25分18秒", time.UTC, "2014-04-08T11:25:18Z"},
		{"1511648546", time.UTC, "2017-11-25T22:22:26Z"},
		{"1620021848429", time.UTC, "2021-05-03T06:04:08.429Z"},
		{"01:06:06", time.UTC, "2024-03-31T01:06:06Z"},
	} {
		got, ok := clock{now, c.zone}.date(c.text)
		if ok != (c.want != "") || ok && got.UTC().Format(time.RFC3339Nano) != c.want {
			t.Errorf("%q in %v = %v, %t, want %s", c.text, c.zone, got.UTC(), ok, c.want)
		}
	}
}

func TestUnixDates(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "1970-01-01T00:00:00Z", 1.5: "1970-01-01T00:00:01.5Z", -1: "1969-12-31T23:59:59Z", 1e300: "", math.Inf(-1): "", math.Inf(1): "",
	} {
		got, ok := unixDate(seconds)
		if ok != (want != "") || ok && got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("unixDate(%v) = %v, %t, want %s", seconds, got.UTC(), ok, want)
		}
	}
}

func TestDateOperators(t *testing.T) {
	team := &flagcache.Team{Team: []byte(`{"timezone":"Europe/Berlin"}`)}
	for _, c := range []struct {
		operator, value, given string
		want                   truth
	}{
		{"is_date_exact", `"2024-06-01"`, `"2024-05-31T22:00:00Z"`, yes},
		{"is_date_after", `"-3d"`, `"2026-02-27"`, yes}, // now is 2026-03-01
		{"is_date_before", `"-3d"`, `"2026-02-27"`, no},
		{"is_relative_date_before", `"3d"`, `"2026-02-20"`, yes},
		{"is_date_before", `"-3d"`, `"-7d"`, yes},
		{"is_date_before", `"2024-01-01"`, `true`, no},
		{"is_date_before", `"2024-01-01"`, `null`, no},
		{"is_date_before", `20240101`, `"2020-01-01"`, no},
		{"is_date_after", `"nonsense"`, `"2020-01-01"`, no},
		{"is_date_before", `"2024-01-01"`, `"1e3"`, yes}, // text that is a number is seconds
		{"is_date_before", `"2024-01-01"`, `[]`, no},
	} {
		if got := matchOf(t, team, c.operator, c.value, c.given); got != c.want {
			t.Errorf("%s %s with %s = %v, want %v", c.operator, c.value, c.given, got, c.want)
		}
	}
}
