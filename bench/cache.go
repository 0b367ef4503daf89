package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/internal/testenv/server"
)

// cache is a Redis with definitions for decide, written as the replicator writes them, without a Postgres behind.
type cache struct {
	redis *server.Redis

	mu     sync.Mutex // guards what follows: the heart beats beside the section
	writer *cachewriter.Writer
	lsn    change.LSN
}

var (
	teamTable = &change.Table{Name: "posthog_team", Entity: flagcache.EntityTeam}
	flagTable = &change.Table{Name: "posthog_featureflag", Entity: flagcache.EntityFlag}
)

// fill starts a Redis and writes the teams into it.
func (h *harness) fill(ctx context.Context, teams iter.Seq2[change.TeamRows, error]) (*cache, error) {
	c := &cache{lsn: 8}
	var err error
	if c.redis, err = server.StartRedis(ctx, server.RedisConfig{}); err != nil {
		return nil, fmt.Errorf("starting Redis: %w", err)
	}
	h.cleanup(func() error { return c.redis.Close(context.WithoutCancel(ctx)) })
	client, err := redisconn.Open(redisconn.Config{URL: c.redis.URL(0)})
	if err != nil {
		return nil, err
	}
	h.cleanup(client.Close)
	c.writer = cachewriter.New(cachewriter.Config{Client: client})
	if _, err := c.writer.Acquire(ctx); err != nil {
		return nil, err
	}
	if _, err := c.writer.Reconcile(ctx, change.Copy{At: c.lsn, Exact: true, Reason: "benchmark", Teams: teams}); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	var heart sync.WaitGroup
	heart.Go(func() { c.beat(ctx) })
	h.cleanup(func() error { stop(); heart.Wait(); return nil })
	return c, nil
}

// beat writes the heartbeat, without which decide would call its answers stale.
func (c *cache) beat(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		c.mu.Lock()
		err := c.writer.Beat(ctx, true)
		c.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// apply writes one transaction.
func (c *cache) apply(ctx context.Context, changes []change.Change) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lsn += 8
	tx := &change.Tx{EndLSN: c.lsn, CommitTime: time.Now(), Changes: changes, Bytes: 500 * len(changes)}
	_, err := c.writer.Apply(ctx, change.Batch{Txs: []*change.Tx{tx}, Through: c.lsn})
	return err
}

// decide starts the program on this cache, with one core.
func (h *harness) decide(ctx context.Context, redisURL string, more ...string) (*process, string, error) {
	public, err := server.FreePort()
	if err != nil {
		return nil, "", err
	}
	private, err := server.FreePort()
	if err != nil {
		return nil, "", err
	}
	addr, admin := fmt.Sprintf("127.0.0.1:%d", public), fmt.Sprintf("127.0.0.1:%d", private)
	env := append([]string{"GOMAXPROCS=1", "DECIDE_ADDR=" + addr, "DECIDE_ADMIN_ADDR=" + admin, "DECIDE_DRAIN_DELAY=0s", "DECIDE_LOG_FORMAT=json"}, more...)
	if redisURL != "" {
		env = append(env, "DECIDE_REDIS_URL="+redisURL)
	}
	p, err := h.start(serverCPU, env, h.binary("decide"), "serve")
	if err != nil {
		return nil, "", err
	}
	p.admin = admin
	return p, addr, p.ready(ctx)
}

const referenceToken = "phc_benchmark0123456789abcdefghijklmnopqrstuvwxyz"

// referenceFilters is what the flags of the reference request look like: a rollout and one or two properties, every tenth multivariate. The plan of a
// third of them is the person's, as with real flags, most of which are not for most people; with every, it is that of all, so that all are hashed.
func referenceFilters(i int, every bool) string {
	plan := []string{"pro", "free", "team"}[i%3]
	if every {
		plan = "pro"
	}
	properties := fmt.Sprintf(`{"key":"plan","type":"person","operator":"exact","value":[%q]}`, plan)
	if i%2 == 0 {
		properties += `,{"key":"age","type":"person","operator":"gt","value":18}`
	}
	variants := ""
	if i%10 == 0 {
		variants = `,"multivariate":{"variants":[{"key":"control","rollout_percentage":50},{"key":"test","rollout_percentage":50}]}`
	}
	return fmt.Sprintf(`{"groups":[{"properties":[%s],"rollout_percentage":%d}]%s}`, properties, 50+i%50, variants)
}

func referenceKey(i int) string { return fmt.Sprintf("reference-flag-number-%d", i) }

// teamRows is a team with reference flags.
func teamRows(id int64, token string, flags int, every bool) change.TeamRows {
	rows := []change.Row{teamRow(id, token)}
	for i := range flags {
		rows = append(rows, flagRow(int(id)*1000+i, id, referenceKey(i), referenceFilters(i, every), 1))
	}
	return change.TeamRows{Team: id, Rows: rows}
}

// wideColumns are columns of a team that most installations leave empty.
var wideColumns = strings.Fields(`session_recording_sample_rate session_recording_minimum_duration_milliseconds session_recording_linked_flag
	session_recording_network_payload_capture_config session_recording_masking_config session_recording_trigger_match_type_config session_replay_config
	recording_domains survey_config surveys_opt_in product_tours_opt_in capture_dead_clicks autocapture_opt_out autocapture_exceptions_opt_in
	autocapture_exceptions_errors_to_ignore autocapture_web_vitals_opt_in heatmaps_opt_in inject_web_apps logs_settings conversations_enabled
	conversations_settings flags_persistence_default extra_settings`)

func teamRow(id int64, token string) change.Row {
	columns := []change.Column{
		value("id", change.Number, strconv.FormatInt(id, 10)), value("uuid", change.Text, fmt.Sprintf("%08x-51aa-7d50-a5b5-%012x", id*2654435761%(1<<32), id)),
		value("organization_id", change.Text, fmt.Sprintf("%08x-51aa-7d50-a5b5-%012x", id*40503%(1<<32), id)), value("project_id", change.Number, strconv.FormatInt(id, 10)),
		value("api_token", change.Text, token), value("secret_api_token", change.Secret, "phs_"+token), value("name", change.Text, fmt.Sprint("Project ", id)),
		value("timezone", change.Text, "UTC"), value("session_recording_opt_in", change.Bool, "f"),
	}
	for _, name := range wideColumns {
		columns = append(columns, change.Column{Name: name, State: change.Null})
	}
	return change.Row{Table: teamTable, Key: strconv.FormatInt(id, 10), Team: id, Columns: columns}
}

func flagRow(id int, team int64, key, filters string, version int) change.Row {
	return change.Row{Table: flagTable, Key: strconv.Itoa(id), Team: team, Columns: []change.Column{
		value("id", change.Number, strconv.Itoa(id)), value("key", change.Text, key), value("name", change.Text, "Description of "+key),
		value("filters", change.JSON, filters), value("active", change.Bool, "t"), value("version", change.Number, strconv.Itoa(version)),
		value("ensure_experience_continuity", change.Bool, "f"), value("evaluation_runtime", change.Text, "all"),
		value("bucketing_identifier", change.Text, "distinct_id"),
	}}
}

func value(name string, kind change.Kind, text string) change.Column {
	return change.Column{Name: name, Kind: kind, Text: []byte(text)}
}

// only is a source of the teams given.
func only(teams ...change.TeamRows) iter.Seq2[change.TeamRows, error] {
	return func(yield func(change.TeamRows, error) bool) {
		for _, t := range teams {
			if !yield(t, nil) {
				return
			}
		}
	}
}

// client connects to a Redis for looking into it.
func (h *harness) client(r *server.Redis) *redis.Client {
	host := &redis.Options{Addr: r.Addr, ReadTimeout: time.Minute}
	client := redis.NewClient(host)
	h.cleanup(func() error {
		if err := client.Close(); !errors.Is(err, redis.ErrClosed) {
			return err
		}
		return nil
	})
	return client
}
