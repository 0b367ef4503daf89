package main

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/redisconn"
	"github.com/everflag/everflag/replication"
)

// settings are all settings of the replicator; their help texts are the manual.
type settings struct {
	PostgresURL     string `name:"postgres-url" secret:"" placeholder:"URL" help:"The source, as libpq takes it; several hosts and target_session_attrs are understood. Needs a direct connection, no pooler. $$REPLICATOR_POSTGRES_URL_FILE names a file that holds it."`
	RedisURL        string `name:"redis-url" secret:"" placeholder:"URL" help:"Where the cache is: redis://, rediss://, unix://, redis+sentinel://h1,h2/master or redis+cluster://h1,h2. $$REPLICATOR_REDIS_URL_FILE names a file that holds it."`
	RedisCA         string `name:"redis-ca" placeholder:"FILE" help:"CA certificates (PEM) to trust for rediss:// instead of the system's."`
	KeyPrefix       string `default:"everflag" help:"Prefix of the cache's keys; one per source."`
	Schema          string `default:"public" help:"Schema of PostHog's tables."`
	Slot            string `default:"everflag" help:"Name of the logical replication slot; one per cache."`
	Publication     string `default:"everflag" help:"Name of the publication."`
	ApplicationName string `default:"everflag" help:"Name of the replication connection in pg_stat_replication, by which replicators know one another."`
	AdminAddr       string `default:"127.0.0.1:9464" help:"Address of the private listener: the page for people at /, and /livez, /readyz, /status, /metrics, /debug/pprof, /log/level."`
	AdminURL        string `name:"admin-url" default:"http://127.0.0.1:9464" help:"Where status, rebuild and verify reach a running replicator."`
	LogLevel        string `default:"info" enum:"debug,info,warn,error" help:"Log level: ${enum}."`
	LogFormat       string `default:"auto" enum:"auto,json,console" help:"Log format: ${enum}; auto is console on a terminal, else json."`

	Work workSettings `embed:"" group:"Replication:"`

	Run      struct{}       `cmd:"" default:"withargs" help:"Keep the cache equal to the tables (the default)."`
	Setup    setupSettings  `cmd:"" help:"Create or adjust publication and slot."`
	Teardown struct{}       `cmd:"" help:"Drop slot and publication."`
	Check    command.Format `cmd:"" help:"Find everything that would fail or hurt later, each with a remedy; exit code 2 if there is something."`
	Rebuild  command.Format `cmd:"" help:"Reconcile the whole cache with the tables."`
	Verify   verifySettings `cmd:"" help:"Compare the cache with the tables; exit code 3 if they differ."`
	Status   command.Format `cmd:"" help:"Show what a running replicator does."`
	Version  command.Format `cmd:"" help:"Print what was built: version, commit and its date, Go."`

	Completion command.Completion `cmd:"" help:"Print a script by which bash, zsh or fish completes commands and flags."`
}

// workSettings are those of the running replicator.
type workSettings struct {
	NoSetup           bool          `name:"no-setup" help:"Do not create or alter the publication: somebody else does."`
	AllowSourceChange bool          `help:"Fill a cache that mirrors another Postgres cluster."`
	MaxTxBytes        string        `default:"8MiB" help:"Transactions up to this size are applied row by row; a larger one becomes a reconcile."`
	MaxRetainedWAL    string        `name:"max-retained-wal" default:"1GiB" help:"Log that Postgres may retain for us while Redis is away; before it is reached the log is released, and the return of Redis is a reconcile. 0 holds it for ever."`
	AckDelay          time.Duration `default:"0s" help:"How long Postgres keeps log that Redis already holds, as a reserve for a Redis that loses its last writes; less when half of --max-retained-wal is retained."`
	WaitReplicas      int           `default:"0" help:"Replicas of Redis that must confirm a write before it counts (WAIT)."`
	CatalogEvery      time.Duration `default:"5s" help:"Interval between two looks at the definitions of the tables."`
	ProvisionalAfter  time.Duration `default:"10s" help:"Wait for an exact snapshot after which an incomplete cache is filled from an ordinary one meanwhile."`
	VerifyEvery       time.Duration `default:"1h" help:"Interval between two verifies; 0 = never."`
	TakeoverAfter     time.Duration `default:"5s" help:"Silence of the leader, while Redis answers, after which a stand-by ends its connection; 0 = never."`
}

type setupSettings struct {
	PrintSQL bool   `name:"print-sql" help:"Print the SQL, with a least-privilege role, instead of running it."`
	Role     string `default:"everflag" help:"Name of the role in the printed SQL."`
}

type verifySettings struct {
	command.Format
	Repair bool `help:"Reconcile if there is drift."`
}

// replication returns the settings of the Postgres side.
func (s *settings) replication() (replication.Config, error) {
	c := replication.Defaults()
	c.PostgresURL, c.Schema, c.Slot, c.Publication, c.ApplicationName = s.PostgresURL, s.Schema, s.Slot, s.Publication, s.ApplicationName
	c.ReadURL = command.SecretReader("REPLICATOR_POSTGRES_URL", s.PostgresURL)
	c.CacheSchema = flagcache.SchemaVersion
	o := &s.Work
	c.NoSetup, c.AllowSourceChange, c.AckDelay = o.NoSetup, o.AllowSourceChange, o.AckDelay
	c.CatalogEvery, c.ProvisionalAfter, c.VerifyEvery, c.TakeoverAfter = o.CatalogEvery, o.ProvisionalAfter, o.VerifyEvery, o.TakeoverAfter
	maxTx, err := command.ParseSize(o.MaxTxBytes)
	if err != nil {
		return c, command.BadSettingf("--max-tx-bytes", "%w", err)
	}
	c.MaxTxBytes = int(maxTx)
	if c.MaxRetainedWAL, err = command.ParseSize(o.MaxRetainedWAL); err != nil {
		return c, command.BadSettingf("--max-retained-wal", "%w", err)
	}
	if err := c.Validate(); err != nil {
		return c, command.BadSettings{Err: err}
	}
	if _, err := pgx.ParseConfig(c.PostgresURL); err != nil {
		return c, command.BadSettingf("--postgres-url", "%w", err)
	}
	return c, nil
}

// redisClient returns a client that has not connected yet.
func (s *settings) redisClient() (redis.UniversalClient, error) {
	if err := flagcache.CheckPrefix(s.KeyPrefix); err != nil {
		return nil, command.BadSettingf("--key-prefix", "%w", err)
	}
	client, err := redisconn.Open(redisconn.Config{
		URL: s.RedisURL, ReadURL: command.SecretReader("REPLICATOR_REDIS_URL", s.RedisURL), CAFile: s.RedisCA, ClientName: "everflag-replicator",
	})
	if err != nil {
		return nil, command.BadSettings{Err: err}
	}
	return client, nil
}

// writer returns the Redis side. It does not connect.
func (s *settings) writer(client redis.UniversalClient, log *zap.Logger) cachewriter.Config {
	return cachewriter.Config{Client: client, Logger: log, Prefix: s.KeyPrefix, WaitReplicas: s.Work.WaitReplicas}
}
