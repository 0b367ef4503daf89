package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Columns are the columns of a row by name. JSON columns take Go values or json.RawMessage.
type Columns map[string]any

// AddTeam inserts a team with its organization and, where the schema has them, its project. What columns leaves out gets a value that PostHog might have
// put there: an "id" picks the key, "api_token" is "phc_test_<id>" unless said otherwise.
func AddTeam(t testing.TB, db *DB, id int, columns Columns) {
	t.Helper()
	organization := fmt.Sprintf("00000000-0000-4000-8000-%012d", id)
	now := "2026-01-01T00:00:00Z"
	insert(t, db, "posthog_organization", Columns{
		"id": organization, "name": fmt.Sprint("Organization ", id), "slug": fmt.Sprint("organization-", id), "created_at": now, "updated_at": now,
		"plugins_access_level": 9, "for_internal_metrics": false, "is_member_join_email_enabled": true,
	})
	if Value[bool](t, db, "SELECT to_regclass('posthog_project') IS NOT NULL") {
		insert(t, db, "posthog_project", Columns{"id": id, "organization_id": organization, "name": fmt.Sprint("Project ", id), "created_at": now})
	}
	row := Columns{
		"id": id, "uuid": fmt.Sprintf("00000000-0000-4000-9000-%012d", id), "organization_id": organization, "project_id": id,
		"api_token": fmt.Sprint("phc_test_", id), "app_urls": []string{}, "name": fmt.Sprint("Team ", id), "created_at": now, "updated_at": now,
		"anonymize_ips": false, "completed_snippet_onboarding": true, "ingested_event": true, "session_recording_opt_in": false,
		"session_recording_retention_period": "30d", "timezone": "UTC", "data_attributes": []string{}, "test_account_filters": []any{}, "access_control": false,
		"is_demo": false, "plugins_opt_in": false, "opt_out_capture": false, "event_names": []any{}, "event_names_with_usage": []any{},
		"event_properties": []any{}, "event_properties_with_usage": []any{}, "event_properties_numerical": []any{},
	}
	maps.Copy(row, columns)
	insert(t, db, "posthog_team", row)
}

// AddFlag inserts a flag and returns its id. What columns leaves out gets a value that PostHog might have put there.
func AddFlag(t testing.TB, db *DB, team int, key, filters string, columns Columns) int {
	t.Helper()
	row := Columns{
		"id": Value[int](t, db, "SELECT nextval(pg_get_serial_sequence('posthog_featureflag', 'id'))::int"), "team_id": team, "key": key, "name": "",
		"filters": json.RawMessage(filters), "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "deleted": false, "active": true,
		"archived": false, "version": 1, "ensure_experience_continuity": false, "has_enriched_analytics": false, "is_remote_configuration": false,
		"has_encrypted_payloads": false, "evaluation_runtime": "all", "bucketing_identifier": "distinct_id",
	}
	maps.Copy(row, columns)
	insert(t, db, "posthog_featureflag", row)
	return Value[int](t, db, "SELECT id FROM posthog_featureflag WHERE team_id = $1 AND key = $2", team, row["key"])
}

// insert adds one row. Columns that this version of the table lacks are left out, which lets one list serve all versions.
func insert(t testing.TB, db *DB, table string, row Columns) {
	t.Helper()
	text, err := json.Marshal(row)
	if err != nil {
		t.Fatalf("encoding a row of %s: %v", table, err)
	}
	name := pgx.Identifier{table}.Sanitize()
	statement := fmt.Sprintf("INSERT INTO %s SELECT * FROM jsonb_populate_record(NULL::%s, $1::jsonb)", name, name)
	step(t, "inserting into "+table, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, db.URL)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, statement, string(text))
		return errors.Join(err, conn.Close(ctx))
	})
}
