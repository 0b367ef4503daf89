package main

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/logging"
)

//go:embed pages
var templates embed.FS

// A page lists this many, and says how to find the others.
const (
	maxTeams = 50
	maxFlags = 100
)

// definitions are what the pages show. A store.Store is one.
type definitions interface {
	decide.Source
	Status() store.Status
	Teams(query string, limit int) []store.Summary
}

// reader is decide's pages for people.
type reader struct {
	definitions
	history *history
	site    *pages.Site
}

func newReader(d definitions, log *zap.Logger) (*reader, error) {
	site, err := pages.New("decide", command.BuildOf("decide", version).Text(), templates, log)
	return &reader{definitions: d, history: &history{}, site: site}, err
}

// Run notes the status every second until the context ends.
func (p *reader) Run(ctx context.Context) error {
	pages.Follow(ctx, historyEvery, func() { p.history.note(p.Status(), time.Now()) })
	return nil
}

// with adds the pages to the routes.
func (p *reader) with(routes map[string]http.Handler) map[string]http.Handler {
	routes = maps.Clone(routes)
	routes["GET /{$}"] = http.HandlerFunc(p.index)
	routes["GET /assets/{name}"] = http.HandlerFunc(p.site.Asset)
	routes["GET /team"] = p.ofTeam(p.team)
	routes["GET /team/flag"] = p.ofTeam(p.flag)
	routes["GET /team/explain"] = p.ofTeam(p.askExplain)
	routes["POST /team/explain"] = p.ofTeam(p.explain)
	return routes
}

// indexView is the first page.
type indexView struct {
	store.Status
	Now     time.Time
	Query   string
	Found   []store.Summary
	More    bool
	Problem string
	Turns   []turn
}

func (p *reader) index(w http.ResponseWriter, r *http.Request) {
	v := indexView{Status: p.Status(), Now: time.Now(), Query: strings.TrimSpace(r.URL.Query().Get("q")), Turns: p.history.last()}
	v.Problem = logging.Redact(v.Error)
	v.Found = p.Teams(v.Query, maxTeams+1)
	if v.More = len(v.Found) > maxTeams; v.More {
		v.Found = v.Found[:maxTeams]
	}
	// A search looks into every team, so its result is not asked for again and again.
	p.site.Show(w, http.StatusOK, "index", pages.View{Title: v.State(), Live: v.Query == "", Body: v})
}

// State says in a few words where answers come from.
func (v indexView) State() string {
	switch v.Source {
	case store.OriginRedis:
		return "following Redis"
	case store.OriginMemory:
		return "serving from memory"
	case store.OriginFile:
		return "serving from the snapshot file"
	}
	return "no definitions yet"
}

// Mood is how good that is.
func (v indexView) Mood() string {
	switch v.Source {
	case store.OriginRedis:
		return "good"
	case store.OriginNone:
		return "bad"
	}
	return "warn"
}

// Ago is how long ago a time was.
func (v indexView) Ago(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return pages.Took(v.Now.Sub(*t)) + " ago"
}

// Age is how old the definitions may be.
func (v indexView) Age() string {
	switch {
	case v.Source == store.OriginNone:
		return "none"
	case v.AgeSeconds == 0:
		return "up to date"
	}
	return pages.Took(time.Duration(v.AgeSeconds*float64(time.Second))) + " old"
}

// Took is how long the last change took from its commit to this process.
func (v indexView) Took() string {
	if v.LastCommit == nil || v.LastChange == nil {
		return ""
	}
	return pages.Took(v.LastChange.Sub(*v.LastCommit))
}

// LSN is the position in the log that the definitions stand for.
func (v indexView) LSN() string {
	_, lsn, err := flagcache.ParseVersion(v.Position)
	if err != nil {
		return "–"
	}
	return fmt.Sprintf("%X/%X", uint32(lsn>>32), uint32(lsn))
}

// Writer is the host of the replicator that owns the cache, and as much of its random text as tells two on one host apart.
func (v indexView) Writer() string {
	host, id, _ := strings.Cut(v.Owner, "/")
	if host = pages.Clip(60, host); id != "" {
		host += "/" + pages.Clip(6, id)
	}
	return host
}

// subject is the team that a page is about.
type subject struct {
	records *flagcache.Team
	program *eval.Program
	view    *teamView
}

// Address is where another page about the team is.
func (s *teamView) Address(path string, more ...string) string {
	values := url.Values{"token": {s.Token}}
	for i := 0; i+1 < len(more); i += 2 {
		values.Set(more[i], more[i+1])
	}
	return path + "?" + values.Encode()
}

// Title is the team's name, or what else identifies it.
func (s *teamView) Title() string {
	return cmp.Or(strings.TrimSpace(s.Name), "team "+strconv.FormatInt(s.ID, 10))
}

// ofTeam finds the team that the address names by its token.
func (p *reader) ofTeam(show func(http.ResponseWriter, *http.Request, *subject)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.URL.Query().Get("token")
		program, lookup := p.Program(token)
		records, again := p.Records(token)
		switch {
		case lookup == decide.Found && again == decide.Found:
			problems := map[int64]string{}
			for _, problem := range program.Problems() {
				problems[problem.FlagID] = problem.Reason
			}
			show(w, r, &subject{records, program, viewTeam(records, problems)})
		case lookup == decide.Absent || again == decide.Absent:
			p.site.Message(w, http.StatusNotFound, "No such team", fmt.Sprintf("No team has the token %q. Clients that send it are answered with 401.", pages.Clip(100, token)))
		default:
			p.site.Message(w, http.StatusServiceUnavailable, "Not known", fmt.Sprintf("No team with the token %q is loaded, and the cache is not known to be complete "+
				"and fresh. Clients that send it are answered with 503.", pages.Clip(100, token)))
		}
	})
}

// flagsView is the page of a team.
type flagsView struct {
	*teamView
	Query          string
	Found          []*flagView
	Matching       int
	Active, Broken int
}

func (p *reader) team(w http.ResponseWriter, r *http.Request, s *subject) {
	v := flagsView{teamView: s.view, Query: strings.TrimSpace(r.URL.Query().Get("q"))}
	query := strings.ToLower(v.Query)
	for _, f := range s.view.Flags {
		if f.Active {
			v.Active++
		}
		if f.Problem != "" {
			v.Broken++
		}
		if !strings.Contains(strings.ToLower(f.Key), query) && !strings.Contains(strings.ToLower(f.Name), query) && strconv.FormatInt(f.ID, 10) != query {
			continue
		}
		if v.Matching++; v.Matching <= maxFlags {
			v.Found = append(v.Found, f)
		}
	}
	p.site.Show(w, http.StatusOK, "team", pages.View{Title: s.view.Title(), Trail: []pages.Link{{Name: s.view.Title()}}, Live: true, Body: v})
}

// oneView is the page of a flag.
type oneView struct {
	*flagView
	team *teamView
}

// Address is where another page about the flag's team is.
func (v oneView) Address(path string, more ...string) string { return v.team.Address(path, more...) }

// Room is how many variants and cohorts the page lists.
func (v oneView) Room() int { return 40 }

// HiddenVariants is how many variants the page has no room for.
func (v oneView) HiddenVariants() int { return max(0, len(v.Variants)-v.Room()) }

// HiddenCohorts is how many cohorts the page has no room for.
func (v oneView) HiddenCohorts() int { return max(0, len(v.Cohorts)-v.Room()) }

func (p *reader) flag(w http.ResponseWriter, r *http.Request, s *subject) {
	f := s.view.byID[r.URL.Query().Get("id")]
	if f == nil {
		p.site.Message(w, http.StatusNotFound, "No such flag", fmt.Sprintf("Team %d has no flag with the id %q.", s.view.ID, pages.Clip(100, r.URL.Query().Get("id"))))
		return
	}
	s.view.explainRules(f, s.records)
	trail := []pages.Link{{Name: s.view.Title(), Address: s.view.Address("/team")}, {Name: f.Key}}
	p.site.Show(w, http.StatusOK, "flag", pages.View{Title: f.Key, Trail: trail, Body: oneView{f, s.view}})
}
