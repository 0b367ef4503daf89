package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/testenv"
)

const patience = 20 * time.Second

// bench is a source, a cache and the settings that join them.
type bench struct {
	t    testing.TB
	db   *testenv.DB
	conn *pgx.Conn
	cfg  Config
	sink *fakeSink
	logs *observer.ObservedLogs
	log  *zap.Logger
}

// smallSchema has what the declarations need and little else.
const smallSchema = `
	CREATE TABLE posthog_team (id serial PRIMARY KEY, api_token varchar(200) NOT NULL UNIQUE, name varchar(200) NOT NULL DEFAULT '', project_id bigint,
		secret_api_token varchar(200), session_recording_opt_in boolean NOT NULL DEFAULT false, recording_domains varchar(200)[], ingested_event boolean);
	CREATE TABLE posthog_featureflag (id serial PRIMARY KEY, key varchar(400) NOT NULL, name text NOT NULL DEFAULT '', filters jsonb NOT NULL DEFAULT '{}',
		rollout_percentage integer, team_id integer NOT NULL, deleted boolean NOT NULL DEFAULT false, active boolean NOT NULL DEFAULT true,
		last_called_at timestamptz);
	CREATE TABLE posthog_cohort (id serial PRIMARY KEY, name varchar(400), team_id integer, deleted boolean NOT NULL DEFAULT false, filters jsonb,
		is_static boolean NOT NULL DEFAULT false, count integer);
	CREATE TABLE posthog_evaluationcontext (id uuid PRIMARY KEY, name varchar(255) NOT NULL, team_id integer NOT NULL);
	CREATE TABLE posthog_featureflagevaluationcontext (id uuid PRIMARY KEY, feature_flag_id integer NOT NULL, evaluation_context_id uuid NOT NULL);
	CREATE TABLE posthog_experiment (id serial PRIMARY KEY,
		feature_flag_id integer REFERENCES posthog_featureflag ON UPDATE CASCADE ON DELETE CASCADE, deleted boolean NOT NULL DEFAULT false);
	INSERT INTO posthog_team (api_token, name, secret_api_token) VALUES ('phc_one', 'One', 'phs_one'), ('phc_two', 'Two', NULL);
	INSERT INTO posthog_featureflag (key, team_id, filters) VALUES ('a', 1, '{"groups": [{"rollout_percentage": 50}]}'), ('b', 1, '{}'), ('c', 2, '[]');
	INSERT INTO posthog_experiment (feature_flag_id) VALUES (1);`

// newBench fills a fresh database.
func newBench(t testing.TB, db *testenv.DB, schema string) *bench {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	b := &bench{t: t, db: db, logs: logs, log: zap.New(core), sink: newFakeSink(t, newFakeCache())}
	if schema != "" {
		db.Exec(t, schema)
	}
	b.conn = db.Conn(t)
	b.cfg = Defaults()
	b.cfg.PostgresURL = db.URL
	b.cfg.Slot = "slot_" + strings.ToLower(db.Name[max(0, len(db.Name)-30):])
	b.cfg.CatalogEvery = 100 * time.Millisecond
	b.cfg.IdleEvery = 50 * time.Millisecond
	b.cfg.VerifyEvery = 0
	b.cfg.ApplicationName = b.cfg.Slot
	return b
}

// small is a bench on the shared server.
func small(t testing.TB) *bench {
	t.Helper()
	return newBench(t, testenv.Postgres(t), smallSchema)
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.conn.Exec(context.Background(), sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

// version is the server's, as server_version_num.
func (b *bench) version() int {
	b.t.Helper()
	return testenv.Value[int](b.t, b.db, "SELECT current_setting('server_version_num')::int")
}

// running is a replicator at work.
type running struct {
	*Replicator
	t        testing.TB
	registry *prometheus.Registry
	cancel   context.CancelFunc
	done     chan struct{}
	err      error
}

func (b *bench) start() *running { return b.startWith(b.cfg, b.sink) }

func (b *bench) startWith(cfg Config, sink Sink) *running {
	b.t.Helper()
	registry := prometheus.NewRegistry()
	r, err := New(cfg, sink, b.log, registry)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Replicator: r, t: b.t, registry: registry, cancel: cancel, done: make(chan struct{})}
	go func() {
		if run.err = r.Run(ctx); run.err != nil {
			b.log.Error("run ended", zap.Error(run.err))
		}
		close(run.done)
	}()
	b.t.Cleanup(run.stop)
	return run
}

func (r *running) stop() {
	r.cancel()
	<-r.done
}

// wait returns what Run returns by itself.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
		return r.err
	case <-time.After(patience):
		r.t.Fatal("the replicator did not end")
		return nil
	}
}

func (b *bench) eventually(condition func() error) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			b.dumpLogs()
		}
	}()
	testenv.Eventually(b.t, patience, condition)
}

func (b *bench) dumpLogs() {
	entries := b.logs.All()
	for _, e := range entries[max(0, len(entries)-30):] {
		b.t.Logf("%s %s %v", e.Time.Format("15:04:05.000"), e.Message, e.ContextMap())
	}
}

// equal waits until the cache shows what the tables hold and nothing is pending.
func (b *bench) equal() {
	b.t.Helper()
	b.eventually(func() error {
		if p := b.sink.position(); p.Reconcile != "" || p.Checkpoint == 0 {
			return fmt.Errorf("checkpoint %s, marker %q", p.Checkpoint, p.Reconcile)
		}
		return b.difference()
	})
}

// settled waits until a copy has completed and nothing is pending.
func (b *bench) settled() {
	b.t.Helper()
	b.eventually(func() error {
		if p := b.sink.position(); p.Reconcile != "" || p.Checkpoint == 0 {
			return fmt.Errorf("checkpoint %s, marker %q", p.Checkpoint, p.Reconcile)
		}
		return nil
	})
}

// difference compares the cache with what plain queries return.
func (b *bench) difference() error {
	want, err := b.expected()
	if err != nil {
		return err
	}
	b.sink.mu.Lock()
	defer b.sink.mu.Unlock()
	got := map[string]string{}
	for team, records := range b.sink.cache.teams {
		for id, r := range records {
			got[fmt.Sprintf("%d %s", team, id)] = canonical(r.values)
		}
	}
	for key := range union(want, got) {
		if want[key] != got[key] {
			return fmt.Errorf("record %s is\n%q in the cache and\n%q in the tables", key, shorten(got[key]), shorten(want[key]))
		}
	}
	return nil
}

func shorten(text string) string {
	if len(text) > 300 {
		return text[:300] + "…"
	}
	return text
}

func canonical(values map[string]string) string {
	var parts []string
	for name, value := range values {
		parts = append(parts, name+value)
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n")
}

// expected reads the tables by plain queries of its own.
func (b *bench) expected() (map[string]string, error) {
	ctx := context.Background()
	all := map[string]string{}
	tx, err := b.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for i := range bindings {
		declared := &bindings[i]
		columns, err := tableColumns(ctx, tx, b.cfg.Schema, declared.table.Name)
		if err != nil {
			return nil, err
		}
		if len(columns) == 0 {
			continue
		}
		if err := readExpected(ctx, tx, b.cfg.Schema, declared, columns, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func tableColumns(ctx context.Context, tx pgx.Tx, schema, table string) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT column_name::text FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 AND is_generated = 'NEVER'`,
		schema, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func readExpected(ctx context.Context, tx pgx.Tx, schema string, d *binding, columns []string, into map[string]string) error {
	q := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	var served []string
	list := []string{}
	team, join := "t."+q(d.team), ""
	if d.parent != "" {
		team = "p.team_id"
		join = fmt.Sprintf(" JOIN %s.posthog_featureflag p ON p.id = t.%s", q(schema), q(d.parent))
	}
	list = append(list, team+"::bigint", "t."+q(d.key)+"::text")
	for _, c := range columns {
		if slices.Contains(d.kept, c) || slices.Contains(d.secrets, c) {
			served = append(served, c)
			list = append(list, textOf("t."+q(c)))
		}
	}
	where := team + " IS NOT NULL"
	if d.hidden != "" && slices.Contains(columns, d.hidden) {
		where += " AND NOT coalesce(t." + q(d.hidden) + ", false)"
	}
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT %s FROM %s.%s t%s WHERE %s", strings.Join(list, ", "), q(schema), q(d.table.Name), join, where))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var teamID int64
		var key string
		texts := make([]*string, len(served))
		targets := []any{&teamID, &key}
		for i := range texts {
			targets = append(targets, &texts[i])
		}
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		values := map[string]string{}
		for i, name := range served {
			values[name] = "null"
			if texts[i] != nil {
				values[name] = "=" + *texts[i]
			}
		}
		into[fmt.Sprintf("%d %s:%s", teamID, d.table.Entity, key)] = canonical(values)
	}
	return rows.Err()
}

// textOf renders a column as the stream does: a cast to text prints booleans as words.
func textOf(column string) string {
	return fmt.Sprintf("CASE pg_typeof(%[1]s)::text WHEN 'boolean' THEN left(%[1]s::text, 1) ELSE %[1]s::text END", column)
}

// neverAhead watches the slot until the test ends: what it has confirmed must be in the cache.
func (b *bench) neverAhead() {
	b.t.Helper()
	conn := b.db.Conn(b.t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			var text string
			err := conn.QueryRow(context.Background(), "SELECT coalesce(confirmed_flush_lsn::text, '0/0') FROM pg_replication_slots WHERE slot_name = $1",
				b.cfg.Slot).Scan(&text)
			if errors.Is(err, pgx.ErrNoRows) {
				continue
			}
			if err != nil {
				return // the test has stopped the server
			}
			confirmed, err := change.ParseLSN(text)
			if err != nil {
				b.t.Error(err)
				return
			}
			if p := b.sink.position(); p.Complete && p.Reconcile == "" && confirmed > p.Checkpoint {
				b.t.Errorf("the slot has confirmed %s, the cache holds %s", confirmed, p.Checkpoint)
				return
			}
		}
	}()
	b.t.Cleanup(func() {
		close(stop)
		<-stopped
	})
}
