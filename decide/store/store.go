package store

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

// Config is what a Store needs to know.
type Config struct {
	// Client is the connection to Redis, which the caller closes after Run. It must respect the deadlines of contexts (ContextTimeoutEnabled). Nil means
	// that there is only the snapshot file.
	Client redis.UniversalClient

	// Prefix is the key prefix. Defaults to flagcache.DefaultPrefix.
	Prefix string

	// SnapshotFile is where the definitions survive a restart. Defaults to no file.
	SnapshotFile string

	// SnapshotEvery is how often changed definitions are written to the file. Defaults to 30 seconds.
	SnapshotEvery time.Duration

	// MaxMemory bounds the bytes of records and compiled programs: past it, programs that were not used for long are dropped, and compiled again on demand.
	// Defaults to 1 GiB.
	MaxMemory int64

	// SharedByProject gives every team the flags of all teams of its project.
	SharedByProject bool

	// Eval are the settings of the evaluator.
	Eval eval.Options

	// Logger gets one line per change of state.
	Logger *zap.Logger

	// Registerer gets the metrics. Defaults to none.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() Config {
	c.Prefix = cmp.Or(c.Prefix, flagcache.DefaultPrefix)
	c.SnapshotEvery = cmp.Or(c.SnapshotEvery, 30*time.Second)
	c.MaxMemory = cmp.Or(c.MaxMemory, 1<<30)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// Store is a decide.Source over Redis and a snapshot file.
type Store struct {
	cfg      Config
	log      *zap.Logger
	metrics  *metrics
	codecs   codecs
	programs programs

	view      atomic.Pointer[view]      // stored by the follower
	condition atomic.Pointer[condition] // stored by the follower
	changed   atomic.Int64              // counts the views

	saved atomic.Pointer[saved] // stored by the writer of the file
}

// New returns a Store that serves nothing until Run has found something.
func New(cfg Config) *Store {
	cfg = cfg.withDefaults()
	s := &Store{cfg: cfg, log: cfg.Logger}
	s.programs = programs{store: s, live: make(map[*team]int64)}
	s.view.Store(&view{})
	s.condition.Store(&condition{origin: OriginNone, since: time.Now()})
	s.saved.Store(&saved{})
	s.metrics = newMetrics(s, cfg.Registerer)
	return s
}

// Run loads the snapshot file, then follows Redis until the context ends, and writes the file before it returns. Neither a file that cannot be used nor
// a Redis that does not answer ends it.
func (s *Store) Run(ctx context.Context) error {
	f := &follower{Store: s, keys: flagcache.NewKeys(s.cfg.Prefix), client: s.cfg.Client, torn: make(map[int64]struct{})}
	if s.cfg.SnapshotFile != "" {
		f.cursor = s.loadFile()
	}
	var running sync.WaitGroup
	running.Go(func() { s.programs.keepTime(ctx) })
	if s.cfg.Client != nil {
		running.Go(func() { f.run(ctx) })
	}
	if s.cfg.SnapshotFile != "" {
		s.tryFile()
		running.Go(func() { s.saveRegularly(ctx) })
	}
	<-ctx.Done()
	running.Wait()
	if s.cfg.SnapshotFile != "" {
		s.saveAtEnd()
	}
	return nil
}

// Program returns the compiled flags of the team with the token.
func (s *Store) Program(token string) (*eval.Program, decide.Lookup) {
	v, t, lookup := s.find(token)
	if t == nil {
		return nil, lookup
	}
	program, err := s.programs.of(v, t)
	if err != nil {
		s.unusable(t, err)
		return nil, decide.Unavailable
	}
	return program, decide.Found
}

// Records returns the records of the team with the token; where flags are shared by project, with the flags of its siblings and what belongs to them.
func (s *Store) Records(token string) (*flagcache.Team, decide.Lookup) {
	v, t, lookup := s.find(token)
	if t == nil {
		return nil, lookup
	}
	records, err := t.records()
	siblings, errSiblings := v.siblingRecords(t)
	if err := errors.Join(err, errSiblings); err != nil {
		s.unusable(t, err)
		return nil, decide.Unavailable
	}
	for _, sibling := range siblings {
		records.Flags = append(records.Flags, sibling.Flags...)
		records.Cohorts = append(records.Cohorts, sibling.Cohorts...)
		records.GroupTypes = append(records.GroupTypes, sibling.GroupTypes...)
		records.Contexts = append(records.Contexts, sibling.Contexts...)
		records.FlagContexts = append(records.FlagContexts, sibling.FlagContexts...)
		records.Experiments = append(records.Experiments, sibling.Experiments...)
	}
	records.Version = newest(t, v.siblings(t)).String()
	return records, decide.Found
}

func (s *Store) find(token string) (*view, *team, decide.Lookup) {
	if token == "" {
		return nil, nil, decide.Absent
	}
	v := s.view.Load()
	if t, ok := v.tokens.get(token); ok {
		return v, t, decide.Found
	}
	// Certainty first, then the view once more: the team may have come in between, and a view is never older than the certainty about it.
	if !s.condition.Load().absenceCertain(time.Now()) {
		return nil, nil, decide.Unavailable
	}
	v = s.view.Load()
	if t, ok := v.tokens.get(token); ok {
		return v, t, decide.Found
	}
	return nil, nil, decide.Absent
}

// unusable reports records in memory that cannot be unpacked, which no input should be able to cause.
func (s *Store) unusable(t *team, err error) {
	s.metrics.unreadable.Inc()
	s.log.Error("the records of a team in memory are not usable", zap.Int64("team_id", t.id), zap.Error(err))
}

// Position says which state of the source the answers reflect.
func (s *Store) Position() decide.Position {
	c := s.condition.Load()
	v := s.view.Load()
	return decide.Position{
		Ready:      v.teams.size > 0 || c.mayBeEmpty(),
		Checkpoint: c.checkpoint,
		Stale:      c.stale(time.Now()),
	}
}
