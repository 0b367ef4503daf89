package soak

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// dice draws a number from 0 to n-1. The label is for people who read a failing program.
type dice func(label string, n int) int

func (d dice) chance(label string, n int) bool { return d(label, n) == n-1 } // rapid shrinks towards 0: towards the ordinary

func (d dice) one(label string, from, to int) int { return from + d(label, to-from+1) }

// stmt is one statement; with data it is a COPY FROM STDIN.
type stmt struct {
	sql, data string
	schema    bool // it changes definitions, which the stream does not report
	may       bool // it may fail without ending its transaction: a savepoint guards it
}

func (s stmt) String() string {
	if s.data != "" {
		return s.sql + ";\n" + s.data + `\.`
	}
	return s.sql + ";"
}

func sqlf(format string, args ...any) stmt { return stmt{sql: fmt.Sprintf(format, args...)} }

// The tables hold few rows, so that changes meet.
const (
	maxTeam = 5
	maxFlag = 8
	maxRow  = 5 // of every other table
)

// author writes random SQL. Everything in it is literal: what it wrote can be run again.
type author struct {
	dice
	serial int  // makes names that no row has had yet
	gentle bool // teams and flags are not truncated
}

func (a *author) next() int {
	a.serial++
	return a.serial
}

func (a *author) team() int { return a.one("team", 1, maxTeam) }
func (a *author) flag() int { return a.one("flag", 1, maxFlag) }
func (a *author) row() int  { return a.one("row", 1, maxRow) }

func uuid(table, n int) string { return fmt.Sprintf("00000000-0000-4000-8%03d-%012d", table, n) }

// noise is text of n×32 characters that does not compress, so that Postgres stores it out of line and leaves it out of later updates.
func (a *author) noise(n int) string {
	return fmt.Sprintf("(SELECT string_agg(md5('%d.' || g), '') FROM generate_series(1, %d) g)", a.next(), n)
}

// text is a literal that tests escaping.
func (a *author) text() string {
	texts := []string{"plain", "", `quote " backslash \ tab	`, "é<&>😀\u2028", `{"a":1}`, "it''s"}
	return fmt.Sprintf("'%s %d'", texts[a.dice("text", len(texts))], a.next())
}

// kinds are the ways to change rows, with their weights.
var kinds = []struct {
	weight int
	write  func(*author) []stmt
}{
	{4, (*author).insertTeam},
	{4, (*author).updateTeam},
	{1, (*author).dropTeam},
	{2, (*author).rotateToken},
	{2, (*author).swapTokens},
	{1, (*author).renumberTeam},
	{6, (*author).insertFlag},
	{12, (*author).updateFlag},
	{3, (*author).moveFlag},
	{2, (*author).renumberFlag},
	{2, (*author).deleteFlag},
	{4, (*author).cohort},
	{3, (*author).groupType},
	{2, (*author).config},
	{4, (*author).context},
	{4, (*author).flagContext},
	{4, (*author).experiment},
	{2, (*author).bulk},
	{1, (*author).copyIn},
	{1, (*author).truncate},
}

// write returns the statements of one random change.
func (a *author) write() []stmt {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	pick := a.dice("change", total)
	for _, k := range kinds {
		if pick -= k.weight; pick < 0 {
			return k.write(a)
		}
	}
	panic("unreachable")
}

// insert adds a row unless its key is taken. The row belongs to an existing row of parent, whose key goes into column; it is not added if there is none.
func insert(table string, row map[string]any, column, parent string, key any) stmt {
	text, err := json.Marshal(row)
	if err != nil {
		panic(err) // rows are literals of this file
	}
	literal := strings.ReplaceAll(string(text), "'", "''")
	if parent == "" {
		return sqlf("INSERT INTO %[1]s SELECT * FROM jsonb_populate_record(NULL::%[1]s, '%[2]s') ON CONFLICT DO NOTHING", table, literal)
	}
	return sqlf("INSERT INTO %[1]s SELECT r.* FROM %[3]s p, jsonb_populate_record(NULL::%[1]s, '%[2]s' || jsonb_build_object('%[4]s', p.id)) r "+
		"WHERE p.id::text = '%[5]v' ON CONFLICT DO NOTHING", table, literal, parent, column, key)
}

const when = "2026-01-01T00:00:00Z"

func (a *author) insertTeam() []stmt { return teamRows(a.team(), fmt.Sprint("phc_", a.next())) }

// teamRows are a team and what it needs.
func teamRows(id int, token string) []stmt {
	organization := uuid(1, id)
	return []stmt{
		insert("posthog_organization", map[string]any{
			"id": organization, "name": fmt.Sprint("Organization ", id), "slug": fmt.Sprint("organization-", id), "created_at": when, "updated_at": when,
			"plugins_access_level": 9, "for_internal_metrics": false, "is_member_join_email_enabled": true,
		}, "", "", 0),
		insert("posthog_project", map[string]any{"id": id, "organization_id": organization, "name": fmt.Sprint("Project ", id), "created_at": when}, "", "", 0),
		insert("posthog_team", map[string]any{
			"id": id, "uuid": uuid(2, id), "organization_id": organization, "project_id": id, "api_token": token, "app_urls": []string{},
			"name": fmt.Sprint("Team ", id), "created_at": when, "updated_at": when, "anonymize_ips": false, "completed_snippet_onboarding": true,
			"ingested_event": true, "session_recording_opt_in": false, "session_recording_retention_period": "30d", "timezone": "UTC",
			"data_attributes": []string{}, "test_account_filters": []any{}, "access_control": false, "is_demo": false, "plugins_opt_in": false,
			"opt_out_capture": false, "event_names": []any{}, "event_names_with_usage": []any{}, "event_properties": []any{},
			"event_properties_with_usage": []any{}, "event_properties_numerical": []any{},
		}, "", "", 0),
	}
}

func (a *author) updateTeam() []stmt {
	sets := []string{
		"name = " + a.text(),
		"session_recording_sample_rate = " + fmt.Sprintf("%d.%02d", a.dice("rate", 2), a.dice("hundredths", 100)),
		"secret_api_token = 'phs_" + fmt.Sprint(a.next()) + "', secret_api_token_backup = secret_api_token",
		"recording_domains = ARRAY['https://a.example', NULL, " + a.text() + "]",
		"session_recording_linked_flag = NULL, session_recording_url_trigger_config = ARRAY['{\"url\": \"a\"}'::jsonb]",
		// As wide as this every column goes out of line, api_token included: see world.
		"extra_settings = jsonb_build_object('noise', " + a.noise(80) + "), name = left(" + a.noise(6) + ", 190), timezone = 'Europe/Vienna'",
		"updated_at = now()", // not served
		"ingested_event = NOT ingested_event",
		"surveys_opt_in = NOT coalesce(surveys_opt_in, false), heatmaps_opt_in = NULL",
	}
	return []stmt{sqlf("UPDATE posthog_team SET %s WHERE id = %d", sets[a.dice("columns", len(sets))], a.team())}
}

// ofTeam are the tables with a team_id, children before their parents.
var ofTeam = []string{
	"posthog_experiment", "posthog_cohort", "posthog_grouptypemapping", "feature_flags_teamfeatureflagsconfig", "posthog_evaluationcontext", "posthog_featureflag",
}

func (a *author) dropTeam() []stmt {
	id := a.team()
	steps := []stmt{
		sqlf("DELETE FROM posthog_featureflagevaluationcontext l USING posthog_featureflag f WHERE f.id = l.feature_flag_id AND f.team_id = %d", id),
		sqlf("DELETE FROM posthog_featureflagevaluationcontext l USING posthog_evaluationcontext c WHERE c.id = l.evaluation_context_id AND c.team_id = %d", id),
	}
	for _, table := range ofTeam {
		steps = append(steps, sqlf("DELETE FROM %s WHERE team_id = %d", table, id))
	}
	steps[2].may = true // the table of experiments may be gone
	steps[2].sql = fmt.Sprintf("DELETE FROM posthog_experiment e USING posthog_featureflag f WHERE f.id = e.feature_flag_id AND %d IN (e.team_id, f.team_id)", id)
	drop := sqlf("DELETE FROM posthog_team WHERE id = %d", id)
	if a.chance("team first", 3) { // its foreign keys are checked at the end
		return append([]stmt{drop}, steps...)
	}
	return append(steps, drop)
}

func (a *author) rotateToken() []stmt {
	return []stmt{sqlf("UPDATE posthog_team SET api_token = 'phc_%d' WHERE id = %d", a.next(), a.team())}
}

func (a *author) swapTokens() []stmt {
	x, y := a.team(), a.team()
	return []stmt{
		sqlf("UPDATE posthog_team SET api_token = '(' || api_token WHERE id IN (%d, %d)", x, y),
		sqlf("UPDATE posthog_team t SET api_token = substr(o.api_token, 2) FROM posthog_team o WHERE (t.id, o.id) IN ((%d, %d), (%[2]d, %[1]d)) AND t.api_token LIKE '(%%'", x, y),
		sqlf("UPDATE posthog_team SET api_token = substr(api_token, 2) WHERE api_token LIKE '(%%'"), // there was no other
	}
}

func (a *author) renumberTeam() []stmt {
	from, to := a.team(), a.team()
	steps := []stmt{sqlf("UPDATE posthog_team SET id = %d WHERE id = %d AND NOT EXISTS (SELECT 1 FROM posthog_team WHERE id = %[1]d)", to, from)}
	for _, table := range ofTeam {
		step := sqlf("UPDATE %s SET team_id = %d WHERE team_id = %d AND NOT EXISTS (SELECT 1 FROM posthog_team WHERE id = %[3]d)", table, to, from)
		step.may = table == "posthog_experiment"
		steps = append(steps, step)
	}
	return steps
}

func flagRow(id int, key string, more map[string]any) map[string]any {
	row := map[string]any{
		"id": id, "key": key, "name": "", "filters": json.RawMessage(`{"groups":[{"properties":[],"rollout_percentage":100}]}`), "created_at": when,
		"deleted": false, "active": true, "archived": false, "version": 1, "ensure_experience_continuity": false, "evaluation_runtime": "all",
		"has_encrypted_payloads": false, "bucketing_identifier": "distinct_id",
		"evaluation_contexts_match_mode": "any", "unserved": 7, // where a migration has added them: a whole row is inserted, without defaults
	}
	maps.Copy(row, more)
	return row
}

func (a *author) insertFlag() []stmt {
	more := map[string]any{"deleted": a.chance("hidden", 6)}
	return []stmt{insert("posthog_featureflag", flagRow(a.flag(), fmt.Sprint("flag-", a.next()), more), "team_id", "posthog_team", a.team())}
}

func (a *author) updateFlag() []stmt {
	sets := []string{
		"active = NOT active AND NOT archived",
		"version = version + 1",
		fmt.Sprintf("filters = '{\"groups\": [{\"rollout_percentage\": %d}], \"payloads\": {\"true\": \"%d\"}}', version = version + 1", a.dice("rollout", 101), a.next()),
		"filters = jsonb_build_object('groups', '[]'::jsonb, 'noise', " + a.noise(640) + ")",
		"name = " + a.text(),
		"last_called_at = now()", // not served
		"deleted = NOT deleted",
		"deleted = true, key = key || ':deleted:' || id",
		"key = 'renamed-" + fmt.Sprint(a.next()) + "'",
		"evaluation_runtime = 'server', bucketing_identifier = NULL",
		"ensure_experience_continuity = NULL, updated_at = now()",
	}
	return []stmt{sqlf("UPDATE posthog_featureflag SET %s WHERE id = %d", sets[a.dice("columns", len(sets))], a.flag())}
}

func (a *author) moveFlag() []stmt {
	return []stmt{sqlf("UPDATE posthog_featureflag f SET team_id = t.id FROM posthog_team t WHERE t.id = %d AND f.id = %d", a.team(), a.flag())}
}

func (a *author) renumberFlag() []stmt {
	from, to := a.flag(), a.flag()
	free := fmt.Sprintf("NOT EXISTS (SELECT 1 FROM posthog_featureflag WHERE id = %d)", to)
	children := []stmt{
		sqlf("UPDATE posthog_featureflagevaluationcontext SET feature_flag_id = %d WHERE feature_flag_id = %d AND %s", to, from, free),
		sqlf("UPDATE posthog_experiment SET feature_flag_id = %d WHERE feature_flag_id = %d AND %s", to, from, free),
	}
	children[1].may = true
	return append(children, sqlf("UPDATE posthog_featureflag SET id = %d WHERE id = %d AND %s", to, from, free))
}

func (a *author) deleteFlag() []stmt {
	id := a.flag()
	steps := []stmt{
		sqlf("DELETE FROM posthog_experiment WHERE feature_flag_id = %d", id),
		sqlf("DELETE FROM posthog_featureflagevaluationcontext WHERE feature_flag_id = %d", id),
		sqlf("DELETE FROM posthog_featureflag WHERE id = %d", id),
	}
	steps[0].may = true
	return steps
}
