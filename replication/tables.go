package replication

import (
	"slices"

	"github.com/everflag/everflag/internal/change"
)

// binding declares how one table of the source is mirrored. Columns are matched by name, so that one declaration serves all generations of the schema:
// a column that the table lacks is absent from the rows, and one that is not declared is ignored.
type binding struct {
	table    *change.Table
	required bool

	key    string // primary key column
	team   string // column with the row's team; empty if the row finds its team through its parent
	parent string // column with the key of the parent row; empty if the table has a team column
	hidden string // boolean column; rows in which it is true count as absent; empty = none

	kept    []string
	secrets []string // kept only as a hash
}

// parentTable is where the rows of a table with a parent column find their team.
const parentTable = "posthog_featureflag"

// bindings declares every table that is mirrored, required ones first.
var bindings = [...]binding{
	{
		table:    &change.Table{Name: "posthog_team", Entity: "team"},
		required: true,
		key:      "id",
		team:     "id",
		kept: []string{
			"id", "uuid", "organization_id", "project_id", "parent_team_id", "api_token", "name", "timezone",
			"session_recording_opt_in", "session_recording_sample_rate", "session_recording_minimum_duration_milliseconds",
			"session_recording_linked_flag", "session_recording_network_payload_capture_config", "session_recording_masking_config",
			"session_recording_url_trigger_config", "session_recording_url_blocklist_config", "session_recording_event_trigger_config",
			"session_recording_trigger_match_type_config", "session_replay_config", "recording_domains",
			"survey_config", "surveys_opt_in", "product_tours_opt_in",
			"capture_console_log_opt_in", "capture_performance_opt_in", "capture_dead_clicks",
			"autocapture_opt_out", "autocapture_exceptions_opt_in", "autocapture_exceptions_errors_to_ignore",
			"autocapture_web_vitals_opt_in", "autocapture_web_vitals_allowed_metrics",
			"heatmaps_opt_in", "inject_web_apps", "logs_settings", "conversations_enabled", "conversations_settings",
			"flags_persistence_default", "extra_settings", "cookieless_server_hash_mode",
		},
		secrets: []string{"secret_api_token", "secret_api_token_backup"},
	},
	{
		table:    &change.Table{Name: parentTable, Entity: "flag"},
		required: true,
		key:      "id",
		team:     "team_id",
		hidden:   "deleted",
		kept: []string{
			"id", "key", "name", "filters", "rollout_percentage", "team_id", "deleted", "active", "archived", "version",
			"ensure_experience_continuity", "is_remote_configuration", "has_encrypted_payloads", "evaluation_runtime",
			"bucketing_identifier", "evaluation_contexts_match_mode",
		},
	},
	{
		// Recalculation updates count, version and the like all the time: they are not kept, so that nothing is written for them.
		table: &change.Table{Name: "posthog_cohort", Entity: "cohort"},
		key:   "id",
		team:  "team_id",
		kept:  []string{"id", "name", "team_id", "deleted", "filters", "query", "groups", "is_static"},
	},
	{
		table: &change.Table{Name: "posthog_grouptypemapping", Entity: "grouptype"},
		key:   "id",
		team:  "team_id",
		kept:  []string{"id", "team_id", "project_id", "group_type", "group_type_index"},
	},
	{
		table: &change.Table{Name: "feature_flags_teamfeatureflagsconfig", Entity: "config"},
		key:   "team_id",
		team:  "team_id",
		kept: []string{
			"team_id", "minimal_flag_called_events", "property_matching_version", "max_feature_flags_override", "flag_evaluations_mode",
		},
	},
	{
		table: &change.Table{Name: "posthog_evaluationcontext", Entity: "context"},
		key:   "id",
		team:  "team_id",
		kept:  []string{"id", "name", "team_id"},
	},
	{
		table:  &change.Table{Name: "posthog_featureflagevaluationcontext", Entity: "flagcontext", Parent: "flag"},
		key:    "id",
		parent: "feature_flag_id",
		kept:   []string{"id", "feature_flag_id", "evaluation_context_id"},
	},
	{
		// Until 2026 evaluation contexts were tags.
		table: &change.Table{Name: "posthog_tag", Entity: "context"},
		key:   "id",
		team:  "team_id",
		kept:  []string{"id", "name", "team_id"},
	},
	{
		table:  &change.Table{Name: "posthog_featureflagevaluationtag", Entity: "flagcontext", Parent: "flag"},
		key:    "id",
		parent: "feature_flag_id",
		kept:   []string{"id", "feature_flag_id", "tag_id"},
	},
	{
		table:  &change.Table{Name: "posthog_experiment", Entity: "experiment", Parent: "flag"},
		key:    "id",
		parent: "feature_flag_id",
		hidden: "deleted",
		kept:   []string{"id", "feature_flag_id"},
	},
}

// bindingOf returns the declaration of the table, or nil.
func bindingOf(table string) *binding {
	for i := range bindings {
		if bindings[i].table.Name == table {
			return &bindings[i]
		}
	}
	return nil
}

// serves reports whether the column is kept, as what kind.
func (b *binding) serves(column string, typeOID uint32) (change.Kind, bool) {
	if slices.Contains(b.secrets, column) {
		return change.Secret, true
	}
	return kindOfType(typeOID), slices.Contains(b.kept, column)
}

// needs reports whether rows of the table cannot be placed without the column.
func (b *binding) needs(column string) bool {
	return column == b.key || column == b.team || column == b.parent
}

// reads reports whether the column has any bearing on what is cached. A change of its definition calls for a reconcile.
func (b *binding) reads(column string) bool {
	if column == "" {
		return false // a role that the table does not fill
	}
	_, kept := b.serves(column, 0)
	return kept || b.needs(column) || column == b.hidden
}

// kindOfType maps the object ids of built-in types, which never change. Domains and enums have ids of their own and are text.
func kindOfType(typeOID uint32) change.Kind {
	switch typeOID {
	case 16: // bool
		return change.Bool
	case 20, 21, 23, 1700: // int8, int2, int4, numeric
		return change.Number
	case 114, 3802: // json, jsonb
		return change.JSON
	}
	return change.Text
}
