package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	posthogsql "github.com/everflag/everflag/deploy/sql"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv/server"
)

// chain is Postgres with PostHog's tables, the replicator, and Redis. They share all cores: on two of them, pinning three programs and a walsender would
// decide the result.
type chain struct {
	h          *harness
	postgres   *server.Postgres
	redis      *server.Redis
	db         *pgx.Conn
	cache      *redis.Client
	keys       flagcache.Keys
	replicator *process
	teams      int
	perTeam    int
	changes    int // counts what is written, so that every change is one
}

const (
	database    = "posthog"
	slot        = "everflag"
	publication = "everflag"
)

// openChain starts the servers, fills the tables with flags of about 450 bytes and has the replicator fill the cache.
func (h *harness) openChain(ctx context.Context, teams, perTeam int) (*chain, error) {
	c := &chain{h: h, keys: flagcache.NewKeys(flagcache.DefaultPrefix), teams: teams, perTeam: perTeam}
	late := context.WithoutCancel(ctx) // cleaning up must not depend on the run going on
	var err error
	if c.postgres, err = server.StartPostgres(ctx, server.PostgresConfig{Conf: map[string]string{"shared_buffers": "512MB", "max_wal_size": "8GB"}}); err != nil {
		return nil, fmt.Errorf("starting Postgres: %w", err)
	}
	h.cleanup(func() error { return c.postgres.Close(late) })
	if c.redis, err = server.StartRedis(ctx, server.RedisConfig{}); err != nil {
		return nil, fmt.Errorf("starting Redis: %w", err)
	}
	h.cleanup(func() error { return c.redis.Close(late) })
	c.cache = h.client(c.redis)
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	return c, c.startReplicator(ctx)
}

func (c *chain) load(ctx context.Context) error {
	err := c.postgres.Do(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+database)
		return err
	})
	if err != nil {
		return fmt.Errorf("creating the database: %w", err)
	}
	if c.db, err = pgx.Connect(ctx, c.postgres.URL(database)); err != nil {
		return err
	}
	c.h.cleanup(func() error { return c.db.Close(context.WithoutCancel(ctx)) })
	text, err := posthogsql.Files.ReadFile("posthog_2026.sql")
	if err != nil {
		return err
	}
	for _, sql := range []string{
		string(text), "SET session_replication_role = replica", // foreign keys are not what is measured
		fmt.Sprintf(insertTeams, c.teams), fmt.Sprintf(insertFlags, c.perTeam, c.teams*c.perTeam),
		"CREATE TABLE elsewhere (id bigint, text text); ALTER TABLE elsewhere ALTER text SET STORAGE EXTERNAL", "VACUUM ANALYZE posthog_team, posthog_featureflag", "CHECKPOINT",
	} {
		if _, err := c.db.Exec(ctx, sql); err != nil {
			return fmt.Errorf("filling the tables (%.60s): %w", sql, err)
		}
	}
	return nil
}

const (
	insertTeams = `INSERT INTO posthog_team SELECT r.* FROM generate_series(1, %d) i, LATERAL jsonb_populate_record(NULL::posthog_team, jsonb_build_object(
	'id', i, 'uuid', gen_random_uuid(), 'organization_id', gen_random_uuid(), 'project_id', i, 'api_token', 'phc_' || lpad(i::text, 43, '0'),
	'app_urls', '{}'::text[], 'name', 'Project ' || i, 'created_at', now(), 'updated_at', now(), 'anonymize_ips', false,
	'completed_snippet_onboarding', true, 'ingested_event', true, 'session_recording_opt_in', false, 'session_recording_retention_period', '30d',
	'timezone', 'UTC', 'data_attributes', '[]'::jsonb, 'test_account_filters', '[]'::jsonb, 'access_control', false, 'is_demo', false,
	'plugins_opt_in', false, 'opt_out_capture', false, 'event_names', '[]'::jsonb, 'event_names_with_usage', '[]'::jsonb, 'event_properties', '[]'::jsonb,
	'event_properties_with_usage', '[]'::jsonb, 'event_properties_numerical', '[]'::jsonb)) r`

	insertFlags = `INSERT INTO posthog_featureflag (id, key, name, filters, created_at, updated_at, deleted, active, version, ensure_experience_continuity,
	has_enriched_analytics, is_remote_configuration, has_encrypted_payloads, evaluation_runtime, bucketing_identifier, team_id)
	SELECT i, 'flag-' || i, 'The flag number ' || i || ' of a benchmark, with a description of ordinary length that says what the flag is good for', ` +
		`('{"groups": [{"variant": null, "properties": [{"key": "email", "type": "person", "value": ["user' || i || '@example.com"], "operator": "icontains"}], ` +
		`"rollout_percentage": 50}], "payloads": {}, "multivariate": null}')::jsonb, now(), now(), false, true, 1, false, false, false, false, 'all', 'distinct_id',
	(i - 1) / %d + 1 FROM generate_series(1, %d) i`
)

// startReplicator starts it and waits until it streams.
func (c *chain) startReplicator(ctx context.Context) error {
	port, err := server.FreePort()
	if err != nil {
		return err
	}
	admin := fmt.Sprintf("127.0.0.1:%d", port)
	c.replicator, err = c.h.start(anyCPU, []string{
		"REPLICATOR_POSTGRES_URL=" + c.postgres.URL(database), "REPLICATOR_REDIS_URL=" + c.redis.URL(0), "REPLICATOR_ADMIN_ADDR=" + admin,
		"REPLICATOR_LOG_FORMAT=json", "REPLICATOR_VERIFY_EVERY=0", "REPLICATOR_MAX_RETAINED_WAL=0",
	}, c.h.binary("replicator"), "run")
	if err != nil {
		return err
	}
	c.replicator.admin = admin
	return c.replicator.ready(ctx)
}

// reconcileReport is what the replicator says of a reconcile.
type reconcileReport struct {
	Took         time.Duration `json:"took"`
	Finished     time.Time     `json:"finished"`
	Teams        int           `json:"teams"`
	Rows         int           `json:"rows"`
	TeamsWritten int           `json:"teams_written"`
}

// lastReconcile asks for the last one that completed; a zero report if there was none.
func (c *chain) lastReconcile(ctx context.Context) (reconcileReport, error) {
	var status struct {
		Reconciled *reconcileReport `json:"reconciled"`
	}
	if err := c.ask(ctx, http.MethodGet, "/status", &status); err != nil || status.Reconciled == nil {
		return reconcileReport{}, err
	}
	return *status.Reconciled, nil
}

// ask talks to the replicator's private listener.
func (c *chain) ask(ctx context.Context, method, path string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+c.replicator.admin+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, response.Status, strings.TrimSpace(body.String()))
	}
	return json.Unmarshal(body.Bytes(), answer)
}

// touch updates one flag to something that was never there before, within a transaction if there is one, and returns the mark to look for.
func (c *chain) touch(ctx context.Context, flag int) (string, error) {
	c.changes++
	mark := fmt.Sprintf("change-%d-of-flag-%d", c.changes, flag)
	_, err := c.db.Exec(ctx, "UPDATE posthog_featureflag SET name = $1 WHERE id = $2", mark, flag)
	return mark, err
}

// arrived waits until Redis holds the mark in the record of a flag.
func (c *chain) arrived(ctx context.Context, flag int, mark string, timeout time.Duration) error {
	team := c.keys.Team(int64((flag-1)/c.perTeam + 1))
	field := flagcache.Field(flagcache.EntityFlag, fmt.Sprint(flag))
	const every = 2 * time.Millisecond // Redis is under measurement, too
	return pollEvery(ctx, every, timeout, "a change to be in Redis", func() (bool, error) {
		record, err := c.cache.HGet(ctx, team, field).Result()
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		return strings.Contains(record, mark), err
	})
}

// position is where the log ends.
func (c *chain) position(ctx context.Context) (string, error) {
	var lsn string
	err := c.db.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&lsn)
	return lsn, err
}
