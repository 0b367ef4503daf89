package main

import (
	"context"
	"embed"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/logging"
	"github.com/everflag/everflag/replication"
)

//go:embed pages
var templates embed.FS

// board is the replicator's page for people.
type board struct {
	status  func() replication.Status
	feed    *feed
	history *history
	site    *pages.Site
}

func newBoard(status func() replication.Status, feed *feed, log *zap.Logger) (*board, error) {
	site, err := pages.New("replicator", command.BuildOf("replicator", version).Text(), templates, log)
	return &board{status: status, feed: feed, history: &history{}, site: site}, err
}

// Run notes the status every second until the context ends.
func (b *board) Run(ctx context.Context) error {
	pages.Follow(ctx, historyEvery, func() { b.history.note(b.status(), time.Now()) })
	return nil
}

// with adds the page to the routes.
func (b *board) with(routes map[string]http.Handler) map[string]http.Handler {
	routes = maps.Clone(routes)
	routes["GET /{$}"] = http.HandlerFunc(b.index)
	routes["GET /assets/{name}"] = http.HandlerFunc(b.site.Asset)
	return routes
}

// indexView is what the page shows.
type indexView struct {
	replication.Status
	Now      time.Time
	Headline string
	NotReady string
	Charts   []chart
	Feed     []entry
	Turns    []turn
	Error    string // of the session, without secrets
	Cache    string // error of the cache, likewise
}

func (b *board) index(w http.ResponseWriter, _ *http.Request) {
	v := b.view(b.status(), time.Now())
	b.site.Show(w, http.StatusOK, "index", pages.View{Title: string(v.Role), Live: true, Body: v})
}

func (b *board) view(status replication.Status, now time.Time) indexView {
	moments, turns := b.history.last()
	v := indexView{
		Status: status, Now: now, Headline: headline(status, now), Feed: b.feed.last(), Turns: turns,
		Error: logging.Redact(status.LastError), Cache: logging.Redact(status.CacheError),
	}
	if err := ready(status); err != nil {
		v.NotReady = logging.Redact(err.Error())
	}
	if strings.Contains(v.NotReady, v.Cache) { // once is enough
		v.Cache = ""
	}
	if strings.Contains(v.NotReady, v.Error) {
		v.Error = ""
	}
	v.Charts = charts(moments, now)
	return v
}

func charts(moments []moment, now time.Time) []chart {
	known := func(i int, value float64) float64 {
		if !moments[i].leads {
			return math.NaN()
		}
		return value
	}
	return []chart{
		draw("Lag", moments, now, seconds(), func(i int) float64 {
			if moments[i].lag < 0 {
				return math.NaN()
			}
			return known(i, moments[i].lag.Seconds())
		}),
		draw("Position: log followed", moments, now, bytes("/s", 1024), func(i int) float64 {
			if i == 0 || moments[i-1].position == 0 || moments[i].position < moments[i-1].position {
				return math.NaN()
			}
			return known(i, float64(moments[i].position-moments[i-1].position)/moments[i].at.Sub(moments[i-1].at).Seconds())
		}),
		draw("Log retained by the slot", moments, now, bytes("", 64<<10), func(i int) float64 { return known(i, float64(moments[i].retained)) }),
	}
}

// headline is the state in a sentence.
func headline(status replication.Status, now time.Time) string {
	since := pages.Took(now.Sub(status.Since))
	switch status.Role {
	case replication.RoleLeader:
		return "This replicator leads, and has for " + since + "."
	case replication.RoleStandby:
		return "Another replicator leads. This one has stood by for " + since + " and takes over when the leader goes."
	}
	return "No session with Postgres for " + since + ". Clients are served from the cache meanwhile."
}

// Lag is how far the cache is behind, as far as that is known.
func (v indexView) Lag() string {
	if v.LagSeconds < 0 {
		return "not known"
	}
	return pages.Took(time.Duration(v.LagSeconds * float64(time.Second)))
}

// Ago is how long ago a time was.
func (v indexView) Ago(t time.Time) string {
	return pages.Took(v.Now.Sub(t)) + " ago"
}

// Leads says whether the figures of the leader are this replicator's own.
func (v indexView) Leads() bool { return v.Role == replication.RoleLeader }

// Elsewhere says who knows a figure that this replicator does not.
func (v indexView) Elsewhere() string {
	if v.Role == replication.RoleStandby {
		return "the leader knows"
	}
	return "not known without Postgres"
}

// Whose names the teams of an entry.
func (e entry) Whose() string {
	switch len(e.Teams) {
	case 0:
		return "–"
	case 1:
		return fmt.Sprint(e.Teams[0])
	}
	return "several"
}
