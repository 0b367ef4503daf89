package soak

import (
	"fmt"
	"strings"
)

func (a *author) cohort() []stmt {
	id := a.row()
	switch a.dice("cohort", 8) {
	case 0, 1, 2:
		return []stmt{insert("posthog_cohort", map[string]any{
			"id": id, "name": fmt.Sprint("Cohort ", a.next()), "description": "", "deleted": false, "groups": []any{}, "is_calculating": false,
			"errors_calculating": 0, "is_static": false,
		}, "team_id", "posthog_team", a.team())}
	case 3:
		return []stmt{sqlf("UPDATE posthog_cohort SET count = %d, version = coalesce(version, 0) + 1, last_calculation = now() WHERE id = %d", a.next(), id)} // not served
	case 4:
		return []stmt{sqlf("UPDATE posthog_cohort SET filters = jsonb_build_object('properties', %s) WHERE id = %d", a.noise(100), id)}
	case 5:
		return []stmt{sqlf("UPDATE posthog_cohort SET deleted = NOT deleted, is_static = NOT is_static WHERE id = %d", id)}
	case 6:
		return []stmt{sqlf("UPDATE posthog_cohort c SET team_id = t.id FROM posthog_team t WHERE t.id = %d AND c.id = %d", a.team(), id)}
	}
	return []stmt{sqlf("DELETE FROM posthog_cohort WHERE id = %d", id)}
}

func (a *author) groupType() []stmt {
	id, team := a.row(), a.team()
	switch a.dice("group type", 4) {
	case 0, 1:
		return []stmt{insert("posthog_grouptypemapping", map[string]any{
			"id": id, "group_type": fmt.Sprint("type-", a.next()), "group_type_index": id - 1, "project_id": team,
		}, "team_id", "posthog_team", team)}
	case 2:
		return []stmt{sqlf("UPDATE posthog_grouptypemapping SET group_type = 'renamed-%d' WHERE id = %d", a.next(), id)}
	}
	return []stmt{sqlf("DELETE FROM posthog_grouptypemapping WHERE id = %d", id)}
}

func (a *author) config() []stmt {
	team := a.team()
	switch a.dice("config", 5) {
	case 0, 1:
		return []stmt{sqlf("INSERT INTO feature_flags_teamfeatureflagsconfig (team_id, minimal_flag_called_events) SELECT id, false FROM posthog_team WHERE id = %d "+
			"ON CONFLICT (team_id) DO UPDATE SET minimal_flag_called_events = NOT feature_flags_teamfeatureflagsconfig.minimal_flag_called_events", team)}
	case 2:
		return []stmt{sqlf("UPDATE feature_flags_teamfeatureflagsconfig SET property_matching_version = property_matching_version + 1 WHERE team_id = %d", team)}
	case 3: // the primary key is the team
		return []stmt{sqlf("UPDATE feature_flags_teamfeatureflagsconfig c SET team_id = t.id FROM posthog_team t WHERE t.id = %d AND c.team_id = %d "+
			"AND NOT EXISTS (SELECT 1 FROM feature_flags_teamfeatureflagsconfig WHERE team_id = %[1]d)", a.team(), team)}
	}
	return []stmt{sqlf("DELETE FROM feature_flags_teamfeatureflagsconfig WHERE team_id = %d", team)}
}

func (a *author) context() []stmt {
	id := uuid(3, a.row())
	switch a.dice("context", 5) {
	case 0, 1:
		return []stmt{insert("posthog_evaluationcontext", map[string]any{
			"id": id, "name": fmt.Sprint("context-", a.next()), "created_at": when, "hidden_from_suggestions": false,
		}, "team_id", "posthog_team", a.team())}
	case 2:
		return []stmt{sqlf("UPDATE posthog_evaluationcontext SET name = %s WHERE id = '%s'", a.text(), id)}
	case 3:
		return []stmt{sqlf("UPDATE posthog_evaluationcontext c SET team_id = t.id FROM posthog_team t WHERE t.id = %d AND c.id = '%s'", a.team(), id)}
	}
	return []stmt{
		sqlf("DELETE FROM posthog_featureflagevaluationcontext WHERE evaluation_context_id = '%s'", id),
		sqlf("DELETE FROM posthog_evaluationcontext WHERE id = '%s'", id),
	}
}

func (a *author) flagContext() []stmt {
	id := uuid(4, a.row())
	switch a.dice("context of flag", 4) {
	case 0, 1:
		return []stmt{sqlf("INSERT INTO posthog_featureflagevaluationcontext (id, created_at, evaluation_context_id, feature_flag_id) "+
			"SELECT '%s', '%s', c.id, f.id FROM posthog_evaluationcontext c, posthog_featureflag f WHERE c.id = '%s' AND f.id = %d ON CONFLICT DO NOTHING",
			id, when, uuid(3, a.row()), a.flag())}
	case 2: // another flag's, perhaps of another team
		return []stmt{sqlf("UPDATE posthog_featureflagevaluationcontext l SET feature_flag_id = f.id FROM posthog_featureflag f WHERE f.id = %d AND l.id = '%s' "+
			"AND NOT EXISTS (SELECT 1 FROM posthog_featureflagevaluationcontext o WHERE o.feature_flag_id = f.id AND o.evaluation_context_id = l.evaluation_context_id)",
			a.flag(), id)}
	}
	return []stmt{sqlf("DELETE FROM posthog_featureflagevaluationcontext WHERE id = '%s'", id)}
}

func (a *author) experiment() []stmt {
	id := a.row()
	var s stmt
	switch a.dice("experiment", 5) {
	case 0, 1:
		team := a.team()
		s = insert("posthog_experiment", map[string]any{
			"id": id, "name": fmt.Sprint("Experiment ", a.next()), "filters": map[string]any{}, "created_at": when, "updated_at": when, "archived": false,
			"deleted": a.chance("hidden", 5), "team_id": team,
		}, "feature_flag_id", "posthog_featureflag", a.flag())
		s.sql = strings.Replace(s.sql, "WHERE p.id::text", fmt.Sprintf("WHERE p.team_id = %d AND p.id::text", team), 1)
	case 2:
		s = sqlf("UPDATE posthog_experiment e SET feature_flag_id = f.id FROM posthog_featureflag f WHERE f.id = %d AND e.id = %d", a.flag(), id)
	case 3:
		s = sqlf("UPDATE posthog_experiment SET deleted = NOT coalesce(deleted, false) WHERE id = %d", id)
	default:
		s = sqlf("DELETE FROM posthog_experiment WHERE id = %d", id)
	}
	s.may = true
	return []stmt{s}
}

func (a *author) bulk() []stmt {
	sets := []string{
		"posthog_featureflag SET last_called_at = now()",
		fmt.Sprintf("posthog_featureflag SET filters = filters || '{\"bulk\": %d}'", a.next()),
		"posthog_featureflag SET version = version + 1, active = NOT active AND NOT archived",
		"posthog_team SET name = name || '+' WHERE length(name) < 190",
		"posthog_cohort SET count = coalesce(count, 0) + 1",
		"posthog_featureflag SET id = id + 1 WHERE id > 100",
	}
	return []stmt{sqlf("UPDATE %s", sets[a.dice("bulk", len(sets))])}
}

func (a *author) copyIn() []stmt {
	var data strings.Builder
	for range a.one("rows", 1, 20) {
		fmt.Fprintf(&data, "%d\tcopied\\\\n %d\t\tf\t[]\tf\t0\tt\t1\t{\"n\": %d}\n", 1000+a.next(), a.serial, a.serial)
	}
	return append(teamRows(1, fmt.Sprint("phc_", a.next())), stmt{
		sql:  "COPY posthog_cohort (id, name, description, deleted, groups, is_calculating, errors_calculating, is_static, team_id, filters) FROM STDIN",
		data: data.String(),
	})
}

func (a *author) truncate() []stmt {
	which := []string{
		"posthog_featureflagevaluationcontext", "posthog_experiment", "posthog_grouptypemapping", "posthog_cohort CASCADE", "posthog_featureflag CASCADE",
		"posthog_team CASCADE",
	}
	if a.gentle {
		if !a.chance("really", 20) {
			return []stmt{sqlf("DELETE FROM posthog_cohort WHERE id >= 1000")}
		}
		which = which[:4]
	}
	s := sqlf("TRUNCATE %s", which[a.dice("truncate", len(which))])
	s.may = true
	return []stmt{s}
}

// migrations change definitions there and back, in Django's forms where it has one. Those of a pair can be run in any state: the one that does not apply fails.
var migrations = [][2]string{
	{
		"ALTER TABLE posthog_featureflag ADD COLUMN evaluation_contexts_match_mode varchar(20) DEFAULT 'any' NOT NULL", // served
		"ALTER TABLE posthog_featureflag DROP COLUMN evaluation_contexts_match_mode CASCADE",
	},
	{
		"ALTER TABLE posthog_featureflag ADD COLUMN unserved integer DEFAULT 7 NOT NULL",
		"ALTER TABLE posthog_featureflag DROP COLUMN unserved CASCADE",
	},
	{
		"ALTER TABLE posthog_featureflag ALTER COLUMN rollout_percentage TYPE numeric(9,2) USING coalesce(rollout_percentage, 1)::numeric(9,2)",
		"ALTER TABLE posthog_featureflag ALTER COLUMN rollout_percentage TYPE integer USING rollout_percentage::integer",
	},
	{"ALTER TABLE posthog_cohort RENAME COLUMN query TO former_query", "ALTER TABLE posthog_cohort RENAME COLUMN former_query TO query"},
	{"ALTER TABLE posthog_cohort DROP COLUMN query CASCADE", "ALTER TABLE posthog_cohort ADD COLUMN query jsonb DEFAULT '{}'"},
	{"ALTER TABLE posthog_cohort REPLICA IDENTITY FULL", "ALTER TABLE posthog_cohort REPLICA IDENTITY DEFAULT"},
	{"ALTER TABLE posthog_featureflag REPLICA IDENTITY FULL", "ALTER TABLE posthog_featureflag REPLICA IDENTITY DEFAULT"},
	{"ALTER TABLE posthog_experiment RENAME TO experiment_away", "ALTER TABLE experiment_away RENAME TO posthog_experiment"},
	{
		"DROP TABLE posthog_experiment CASCADE",
		`CREATE TABLE posthog_experiment (id integer PRIMARY KEY, name varchar(400), deleted boolean, team_id integer,
			feature_flag_id integer NOT NULL REFERENCES posthog_featureflag (id) DEFERRABLE INITIALLY DEFERRED)`,
	},
}

// mutable names the served columns that migrations touch. What readers see of them between a migration and the reconcile that follows is no committed
// state, and cannot be: see history.
var mutable = map[string]string{"rollout_percentage": "flag", "evaluation_contexts_match_mode": "flag", "query": "cohort"}

// migrate changes a definition, sometimes together with rows.
func (a *author) migrate() []stmt {
	s := stmt{sql: migrations[a.dice("migration", len(migrations))][a.dice("back", 2)], schema: true, may: true}
	if a.chance("with rows", 3) {
		return append(append(a.write(), s), a.write()...)
	}
	return []stmt{s}
}
