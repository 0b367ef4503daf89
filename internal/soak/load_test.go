package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/everflag/everflag/internal/oracle"
)

// The steady teams are those whose answers decide is asked for. Their flags are on for all or for none, so that an answer can be told from the tables without
// an evaluator: the payload names the write that it comes from. The author's other teams come and go.
const (
	steadyFrom, steadyTo = 11, 13
	steadyFlags          = 6
)

// The nomad is a team that changes its token, and is deleted and made again. Its present and former tokens are asked for, too.
const nomad = 14

func steadyToken(team int) string { return fmt.Sprint("phc_steady_", team) }

func steadyTokens() (tokens []string) {
	for team := steadyFrom; team <= steadyTo; team++ {
		tokens = append(tokens, steadyToken(team))
	}
	return tokens
}

// load commits transactions all the time.
type load struct {
	author *author
	*source
	sync.Mutex // guards the source
	pace       time.Duration
	errors     int // transactions whose end is not known, because the source went away
}

// run works until the context ends.
func (l *load) run(ctx context.Context) {
	ticker := time.NewTicker(l.pace)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		l.once(ctx)
	}
}

// once commits one transaction, or catches up with a source that was away.
func (l *load) once(ctx context.Context) {
	l.Lock()
	defer l.Unlock()
	if l.db == nil || l.db.IsClosed() {
		if l.caughtUp(ctx) != nil {
			return // it is still away
		}
	}
	var steps []step
	for range l.author.one("changes", 1, 3) {
		write := l.author.steady
		if l.author.chance("others", 2) {
			write = l.author.write
		}
		steps = append(steps, step{write(), []string{"", "", "RELEASE", "ROLLBACK TO"}[l.author.dice("savepoint", 4)]})
	}
	end := commit
	if l.author.chance("rollback", 20) {
		end = rollback
	}
	if l.transaction(ctx, steps, end) != nil {
		l.errors++
	}
}

// unfit is why transactions aborted that had to commit. A load that fails at every second statement tests little.
func (l *load) unfit() error {
	l.Lock()
	defer l.Unlock()
	return l.misfit
}

// begin fills the tables.
func (l *load) begin(ctx context.Context) error {
	var rows []stmt
	for team := steadyFrom; team <= steadyTo; team++ {
		rows = append(rows, teamRows(team, steadyToken(team))...)
		for flag := 1; flag <= steadyFlags; flag++ {
			rows = append(rows, l.author.insertSteady(team, flag)...)
		}
	}
	rows = append(rows, l.author.nomad("phc_nomad")...)
	return l.transaction(ctx, []step{{rows, ""}}, commit)
}

func (a *author) nomad(token string) []stmt {
	return append(teamRows(nomad, token), a.insertSteady(nomad, 1)...)
}

func (a *author) insertSteady(team, flag int) []stmt {
	row := flagRow(200+a.next(), fmt.Sprint("s-", flag), map[string]any{"filters": json.RawMessage(a.steadyFilters(100))})
	return []stmt{insert("posthog_featureflag", row, "team_id", "posthog_team", team)}
}

func (a *author) steadyFilters(rollout int) string {
	return fmt.Sprintf(`{"groups":[{"properties":[],"rollout_percentage":%d}],"payloads":{"true":"%d"}}`, rollout, a.next())
}

// steady changes flags of the steady teams. The first flag of each stays on.
func (a *author) steady() []stmt {
	team := a.one("team", steadyFrom, steadyTo)
	first := fmt.Sprintf("team_id BETWEEN %d AND %d AND key = 's-1'", steadyFrom, steadyTo)
	other := fmt.Sprintf("team_id = %d AND key = 's-%d'", team, a.one("flag", 2, steadyFlags))
	switch a.dice("steady", 9) {
	case 0, 1: // all teams in one transaction
		return []stmt{sqlf("UPDATE posthog_featureflag SET filters = '%s', active = true WHERE %s", a.steadyFilters(100), first)}
	case 2:
		return []stmt{sqlf("UPDATE posthog_featureflag SET filters = '%s' WHERE %s", a.steadyFilters(100*a.dice("rollout", 2)), other)}
	case 3:
		return []stmt{sqlf("UPDATE posthog_featureflag SET deleted = NOT deleted WHERE %s", other)}
	case 4:
		return []stmt{sqlf("DELETE FROM posthog_featureflag WHERE %s", other)}
	case 5:
		return []stmt{sqlf("UPDATE posthog_featureflag SET active = NOT active WHERE %s", other)}
	case 6:
		return []stmt{sqlf("UPDATE posthog_featureflag f SET team_id = %d WHERE %s AND NOT EXISTS (SELECT 1 FROM posthog_featureflag o WHERE o.team_id = %[1]d AND o.key = f.key)",
			a.one("team", steadyFrom, steadyTo), other)}
	case 7: // large, and its other columns unsent from then on
		return []stmt{sqlf("UPDATE posthog_featureflag SET filters = filters || jsonb_build_object('noise', %s) WHERE %s", a.noise(200), other)}
	}
	return a.insertSteady(team, a.one("flag", 2, steadyFlags))
}

// gone is the answer to a token that no team has.
const gone = "no such token"

// answers are what decide must say to tokens in a state: the payloads of the flags that are on.
func answers(state oracle.State, tokens []string) map[string]string {
	said := map[string]string{}
	for _, token := range tokens {
		owner, known := state.Tokens[token]
		if !known {
			said[token] = gone
			continue
		}
		on := map[string]string{}
		for field, record := range state.Teams[owner] {
			if !strings.HasPrefix(field, "flag:") || record["active"] != "true" {
				continue
			}
			var key string
			var filters struct {
				Groups []struct {
					Rollout float64 `json:"rollout_percentage"`
				}
				Payloads map[string]string
			}
			if json.Unmarshal([]byte(record["key"]), &key) != nil || json.Unmarshal([]byte(record["filters"]), &filters) != nil {
				continue // no steady flag is like this
			}
			if len(filters.Groups) == 1 && filters.Groups[0].Rollout == 100 {
				on[key] = filters.Payloads["true"]
			}
		}
		said[token] = canonical(on)
	}
	return said
}

// canonical is a map as one text.
func canonical(on map[string]string) string {
	var b strings.Builder
	for _, key := range sortedKeys(on) {
		fmt.Fprintf(&b, "%s=%s ", key, on[key])
	}
	return b.String()
}
