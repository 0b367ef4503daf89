package main

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/replication"
)

var start = time.Date(2026, 11, 2, 15, 0, 0, 0, time.UTC)

// show renders the page of a board and holds it to what every page promises.
func show(t *testing.T, b *board) string {
	t.Helper()
	mux := http.NewServeMux()
	for pattern, handler := range b.with(map[string]http.Handler{}) {
		mux.Handle(pattern, handler)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/", http.NoBody))
	text := w.Body.String()
	if w.Code != http.StatusOK || len(text) > 100_000 || !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("status %d, %d bytes, policy %q", w.Code, len(text), w.Header().Get("Content-Security-Policy"))
	}
	for _, never := range []string{"<script>", " style=", "http://", "ZgotmplZ", "<no value>", "NaN"} {
		if strings.Contains(text, never) {
			t.Errorf("the page contains %q", never)
		}
	}
	return text
}

func newTestBoard(t *testing.T, status replication.Status) *board {
	t.Helper()
	b, err := newBoard(func() replication.Status { return status }, &feed{}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantTexts(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("the page does not contain %q:\n%s", text, page)
		}
	}
}

func TestPageOfStates(t *testing.T) {
	t.Parallel()
	now := time.Now()
	hour := now.Add(-time.Hour)
	leader := replication.Status{
		Role: replication.RoleLeader, Since: hour, Ready: true, SystemID: "771", Timeline: 1, Database: "posthog", Slot: "everflag", Publication: "pub",
		Checkpoint: "0/1A606A8", Acknowledged: "0/1A606A8", WALEnd: "0/1A606B0", LagBytes: 8, LagSeconds: 0.0005, RetainedWAL: 3 << 20, CommitTime: hour,
		Verify:     &replication.VerifyReport{Finished: hour, Rows: 61},
		Reconciled: &replication.ReconcileReport{Reason: "the cache is empty", Finished: hour, Took: 113 * time.Millisecond, Teams: 5, TeamsWritten: 5},
	}
	wantTexts(t, show(t, newTestBoard(t, leader)), "<h1>leader</h1>", "This replicator leads, and has for 1 h 0 min", `<span class="pill good">ready</span>`, "0.5 ms", "8 B of log",
		"0/1A606A8", "3.0 MiB", "no drift", "61 rows", "5 of 5 teams written", "None yet. A change of a flag")

	drifting := leader
	drifting.Verify = &replication.VerifyReport{Finished: hour, Rows: 61, Drift: 2, Error: "gone"}
	wantTexts(t, show(t, newTestBoard(t, drifting)), "not completed")

	away := leader
	away.Ready, away.Released, away.CacheError, away.LagSeconds = false, true, "dial redis://u:sesame@h:1: <refused>", -1
	text := show(t, newTestBoard(t, away))
	wantTexts(t, text, "not ready", "given back to Postgres unread", "the cache cannot be written: dial", "&lt;refused&gt;", "not known")
	if strings.Contains(text, "sesame") {
		t.Error("the page shows a password")
	}

	filling := leader
	filling.Ready = false
	filling.Reconcile = &replication.ReconcileStatus{Reason: "first <fill>", Since: hour, Stage: "copying", Rows: 40, RowsTotal: 100, Teams: 3, ProvisionalSince: hour}
	wantTexts(t, show(t, newTestBoard(t, filling)), "Reconcile: copying", `max="100" value="40"`, "first &lt;fill&gt;", "Served provisionally")

	standby := replication.Status{Role: replication.RoleStandby, Since: hour, Ready: true, Detail: "pid 77 <leads>", Slot: "everflag", Publication: "pub"}
	wantTexts(t, show(t, newTestBoard(t, standby)), "Another replicator leads", "pid 77 &lt;leads&gt;", "the leader knows", "on the page of the replicator that leads")

	lost := replication.Status{Role: replication.RoleConnecting, Since: hour, LastError: "dial postgres://u:sesame@h: no", ErrorSince: hour, LagSeconds: -1}
	text = show(t, newTestBoard(t, lost))
	wantTexts(t, text, "No session with Postgres for 1 h", "Clients are served from the cache", "no session: dial")
	if strings.Contains(text, "sesame") {
		t.Error("the page shows a password")
	}
}

// tx is a transaction of changes to flags of a team.
func tx(team int64, keys ...string) *change.Tx {
	flags := &change.Table{Name: "posthog_featureflag", Entity: flagcache.EntityFlag}
	t := &change.Tx{CommitTime: start}
	for i, key := range keys {
		t.Changes = append(t.Changes, change.Change{Row: change.Row{Table: flags, Key: fmt.Sprint(i), Team: team, Columns: []change.Column{
			{Name: "filters", Kind: change.JSON, Text: []byte(`"sesame"`)}, {Name: "key", Text: []byte(key)},
		}}})
	}
	return t
}

func TestFeed(t *testing.T) {
	t.Parallel()
	f := &feed{}
	deletion := tx(2, "gone")
	deletion.Changes[0].Op, deletion.Changes[0].Row.Columns = change.Delete, nil
	both := tx(2, "a")
	both.Changes = append(both.Changes, tx(3, "b").Changes...)
	settings := tx(4, "x")
	settings.Changes[0].Row.Table = &change.Table{Entity: flagcache.EntityTeam}
	batch := change.Batch{Txs: []*change.Tx{
		tx(1), tx(1, "<b>new</b>"), tx(1, "k1", "k2", "k3", "k4", "k5", "k6", "k7"), deletion, both, settings, {Reconcile: "TRUNCATE", CommitTime: start},
	}}
	f.applied(batch, start.Add(4*time.Millisecond))
	var got []string
	for _, e := range f.last() {
		got = append(got, fmt.Sprint(e.Whose(), " ", e.What, " ", e.More, " ", e.Took))
	}
	want := []string{
		"– [a reconcile is due: TRUNCATE] 0 4ms", "4 [settings of the team] 0 4ms", "several [flag a flag b] 0 4ms", "2 [flag 0 removed] 0 4ms",
		"1 [flag k1 flag k2 flag k3 flag k4 flag k5] 2 4ms", "1 [flag <b>new</b>] 0 4ms",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the feed is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	b := newTestBoard(t, replication.Status{Role: replication.RoleLeader})
	b.feed = f
	text := show(t, b)
	wantTexts(t, text, "flag &lt;b&gt;new", "and 2 more", "4.0 ms")
	if strings.Contains(text, "sesame") {
		t.Error("the feed shows a value")
	}
	for range 3 * feedLength { // the newest stay, and the page stays small
		f.applied(change.Batch{Txs: []*change.Tx{tx(9, strings.Repeat("long", 100), strings.Repeat("<", 400), "c", "d", "e", "f")}}, start)
	}
	if n := len(f.last()); n != feedLength {
		t.Errorf("the feed keeps %d entries, want %d", n, feedLength)
	}
	show(t, b)
}

func TestHistory(t *testing.T) {
	t.Parallel()
	h := &history{}
	note := func(second int, status replication.Status) {
		h.note(status, start.Add(time.Duration(second)*time.Second))
	}
	note(0, replication.Status{Role: replication.RoleConnecting, LagSeconds: -1})
	note(1, replication.Status{Role: replication.RoleConnecting, LagSeconds: -1})
	note(2, replication.Status{Role: replication.RoleLeader, Ready: true, Checkpoint: "0/100"})
	note(3, replication.Status{Role: replication.RoleLeader, CacheError: "gone"})
	note(4, replication.Status{Role: replication.RoleLeader, Ready: true})
	_, turns := h.last()
	var got []string
	for _, turn := range turns {
		got = append(got, fmt.Sprint(turn.At.Second(), turn.Role, turn.Ready, turn.Why))
	}
	want := "4leadertrue 3leaderfalsethe cache cannot be written: gone 2leadertrue 0connectingfalseconnecting"
	if text := strings.Join(got, " "); text != want {
		t.Errorf("turns are %q, want %q", text, want)
	}
	note(5, replication.Status{Role: replication.RoleStandby, Ready: true, Detail: "in use by process 7"})
	note(6, replication.Status{Role: replication.RoleStandby, Ready: true, Detail: "in use by process 8"}) // another leader
	note(7, replication.Status{Role: replication.RoleConnecting})
	note(8, replication.Status{Role: replication.RoleLeader, Ready: true})
	note(9, replication.Status{Role: replication.RoleLeader, Ready: true})
	_, turns = h.last()
	if len(turns) != 8 || !turns[0].TakenOver || turns[2].Why != "in use by process 8" || turns[2].TakenOver {
		t.Errorf("after a take-over the turns are %+v", turns)
	}
	for second := range 2 * historyLength { // an hour is kept, not more
		note(10+second, replication.Status{Role: replication.RoleStandby, Ready: second%2 == 0})
	}
	moments, turns := h.last()
	if len(moments) > historyLength || len(moments) < historyLength*9/10-1 || len(turns) != turnsLength {
		t.Errorf("%d moments and %d turns are kept", len(moments), len(turns))
	}
}

func TestChart(t *testing.T) {
	t.Parallel()
	var moments []moment
	for second := range 3600 {
		moments = append(moments, moment{at: start.Add(time.Duration(second) * time.Second), ready: second < 1800 || second >= 1900, leads: true})
	}
	now := start.Add(time.Hour)
	lag := func(i int) float64 {
		switch {
		case i == 1850:
			return 3.4
		case i >= 2000 && i < 2400:
			return math.NaN()
		}
		return 0.01
	}
	c := draw("Lag", moments, now, seconds(), lag)
	if c.Now != "10 ms" || c.Most != "3.4 s" || !c.At.Equal(start.Add(1850*time.Second)) || c.Top != "5 s" || c.Window != "60 minutes" || len(c.Lines) != 2 {
		t.Errorf("the chart is now %s, most %s at %v, top %s, window %s, %d lines", c.Now, c.Most, c.At, c.Top, c.Window, len(c.Lines))
	}
	if len(c.Away) != 1 || c.Away[0].X < 88 || c.Away[0].X > 91 || c.Away[0].Width < 5 || c.Away[0].Width > 7 {
		t.Errorf("away: %v, want five columns from the middle", c.Away)
	}
	if !strings.Contains(c.Lines[0].Points, ",32.0") { // 3.4 of 5, from above
		t.Errorf("the greatest value is not in %s", c.Lines[0].Points)
	}
	// A program that has just started: columns are narrower than a second, and yet one line.
	c = draw("Lag", moments[:50], start.Add(50*time.Second), seconds(), lag)
	if c.Window != "2 minutes" || len(c.Lines) != 1 || c.Top != "100 ms" {
		t.Errorf("after 50 s: window %s, %d lines, top %s", c.Window, len(c.Lines), c.Top)
	}
	if c := draw("Lag", nil, start, seconds(), lag); c.Now != "not known" || c.Most != "" || len(c.Lines)+len(c.Away) > 0 {
		t.Errorf("without moments: %+v", c)
	}
	for value, want := range map[float64]string{0: "0 B", 1000: "1.0 KiB", 3 << 20: "5.0 MiB", 600 << 20: "1.0 GiB"} {
		s := bytes("", 0)
		if got := s.text(s.round(value)); value > 0 && got != want {
			t.Errorf("the scale for %v ends at %s, want %s", value, got, want)
		}
	}
}
