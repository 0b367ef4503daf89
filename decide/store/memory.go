package store

import (
	"slices"

	"github.com/everflag/everflag/internal/flagcache"
)

// view is all teams at one position. It is immutable but for the programs inside its teams; a request takes one view and stays with it.
type view struct {
	teams    index[int64, *team]
	tokens   index[string, *team]
	projects index[int64, []*team] // only filled if flags are shared by project
	records  int64                 // bytes that the packed records take
}

// teamOverhead is about what a team takes besides its packed fields and its token: the struct and its places in the indexes.
const teamOverhead = 256

func (t *team) bytes() int64 {
	return int64(len(t.packed)+len(t.token)) + teamOverhead
}

// siblings returns the other teams of the team's project, by id.
func (v *view) siblings(t *team) []*team {
	if t.project == 0 {
		return nil
	}
	all, _ := v.projects.get(t.project)
	return slices.DeleteFunc(slices.Clone(all), func(s *team) bool { return s.id == t.id })
}

// siblingRecords returns the records of the other teams of the team's project.
func (v *view) siblingRecords(t *team) ([]*flagcache.Team, error) {
	var all []*flagcache.Team
	for _, s := range v.siblings(t) {
		records, err := s.records()
		if err != nil {
			return nil, err
		}
		all = append(all, records)
	}
	return all, nil
}

// newest returns the newest version among a team and its siblings: a change of any of them changes what the team is answered with.
func newest(t *team, siblings []*team) version {
	v := t.version
	for _, s := range siblings {
		if s.version.newer(v) {
			v = s.version
		}
	}
	return v
}

// draft is a change to a view: teams that replace those of the same id, nil for those that go. Tokens follow from the teams, never the other way round,
// so that whatever is published at once is consistent by itself.
type draft struct {
	base  *view
	teams map[int64]*team
}

func newDraft(base *view) *draft {
	return &draft{base: base, teams: make(map[int64]*team)}
}

// entangled returns the teams outside the draft without which it would show half a change of tokens: whoever holds, in the view, a token that the draft
// gives to another team, and whoever holds, in the cache, a token that the draft takes away (cached, from token to team id). Within the draft, two teams
// with one token are entangled, too, since they were read at different moments.
func (d *draft) entangled(cached map[string]int64) []int64 {
	var found []int64
	claims := make(map[string]int64, len(d.teams))
	for id, t := range d.teams {
		if t == nil || t.token == "" {
			continue
		}
		if other, taken := claims[t.token]; taken {
			found = append(found, id, other)
		}
		claims[t.token] = id
		if holder, ok := d.base.tokens.get(t.token); ok && holder.id != id {
			if _, included := d.teams[holder.id]; !included {
				found = append(found, holder.id)
			}
		}
	}
	for token, id := range cached {
		if claims[token] != id {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// lost returns the tokens that teams of the draft have in the view and no team has in the draft.
func (d *draft) lost() []string {
	claimed := make(map[string]struct{}, len(d.teams))
	for _, t := range d.teams {
		if t != nil {
			claimed[t.token] = struct{}{}
		}
	}
	var tokens []string
	for id := range d.teams {
		old, ok := d.base.teams.get(id)
		if !ok || old.token == "" {
			continue
		}
		if _, ok := claimed[old.token]; !ok {
			tokens = append(tokens, old.token)
		}
	}
	return tokens
}

// apply returns the view with the change. Deletes come before sets, so that tokens can swap. byProject keeps the index of projects, and makes the
// siblings of changed teams new, without a program.
func (d *draft) apply(byProject bool) *view {
	next := &view{records: d.base.records, projects: d.base.projects}
	teams, tokens := d.base.teams.edit(), d.base.tokens.edit()
	if byProject {
		d.addSiblings()
	}
	for id := range d.teams {
		old, ok := teams.get(id)
		if !ok {
			continue
		}
		next.records -= old.bytes()
		teams.remove(id)
		if holder, ok := tokens.get(old.token); ok && holder.id == id {
			tokens.remove(old.token)
		}
	}
	for id, t := range d.teams {
		if t == nil {
			continue
		}
		next.records += t.bytes()
		teams.set(id, t)
		if t.token != "" {
			tokens.set(t.token, t)
		}
	}
	next.teams, next.tokens = teams.done(), tokens.done()
	if byProject {
		next.projects = d.applyProjects()
	}
	return next
}

// addSiblings adds fresh copies of the teams that share a project, before or after, with a team of the draft: their programs hold its flags.
func (d *draft) addSiblings() {
	touched := make(map[int64]struct{})
	for id, t := range d.teams {
		if old, ok := d.base.teams.get(id); ok {
			touched[old.project] = struct{}{}
		}
		if t != nil {
			touched[t.project] = struct{}{}
		}
	}
	delete(touched, 0)
	for project := range touched {
		all, _ := d.base.projects.get(project)
		for _, s := range all {
			if _, included := d.teams[s.id]; !included {
				d.teams[s.id] = s.fresh()
			}
		}
	}
}

// applyProjects returns the index of projects with the change.
func (d *draft) applyProjects() index[int64, []*team] {
	members := make(map[int64][]*team)
	load := func(project int64) {
		if _, ok := members[project]; !ok {
			all, _ := d.base.projects.get(project)
			members[project] = slices.DeleteFunc(slices.Clone(all), func(t *team) bool { _, changed := d.teams[t.id]; return changed })
		}
	}
	for id, t := range d.teams {
		if old, ok := d.base.teams.get(id); ok && old.project != 0 {
			load(old.project)
		}
		if t != nil && t.project != 0 {
			load(t.project)
			members[t.project] = append(members[t.project], t)
		}
	}
	edit := d.base.projects.edit()
	for project, all := range members {
		if len(all) == 0 {
			edit.remove(project)
			continue
		}
		slices.SortFunc(all, func(a, b *team) int { return int(a.id - b.id) })
		edit.set(project, all)
	}
	return edit.done()
}

// fresh returns the team without its program.
func (t *team) fresh() *team {
	return &team{id: t.id, version: t.version, token: t.token, project: t.project, flags: t.flags, size: t.size, packed: t.packed, codec: t.codec}
}
