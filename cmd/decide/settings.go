package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/redisconn"
)

// settings are all settings of decide; their help texts are the manual.
type settings struct {
	RedisURL     string `name:"redis-url" secret:"" placeholder:"URL" help:"Where the cache is: redis://, rediss://, unix://, redis+sentinel://h1,h2/master or redis+cluster://h1,h2. Required unless --snapshot-file names an existing file. $$DECIDE_REDIS_URL_FILE names a file that holds it."`
	RedisCA      string `name:"redis-ca" placeholder:"FILE" help:"CA certificates (PEM) to trust for rediss:// instead of the system's."`
	KeyPrefix    string `default:"everflag" help:"Prefix of the cache's keys."`
	SnapshotFile string `placeholder:"FILE" help:"Where definitions survive a restart with everything down. Its directory must be writable. Without it decide cannot start while Redis is away."`
	AdminAddr    string `default:"127.0.0.1:9465" help:"Address of the private listener: the pages for people at /, and /livez, /readyz, /status, /metrics, /debug/pprof, /log/level, /explain."`
	AdminURL     string `name:"admin-url" default:"http://127.0.0.1:9465" help:"Where status reaches a running decide."`
	LogLevel     string `default:"info" enum:"debug,info,warn,error" help:"Log level: ${enum}."`
	LogFormat    string `default:"auto" enum:"auto,json,console" help:"Log format: ${enum}; auto is console on a terminal, else json."`

	Rules          string        `default:"current" enum:"current,2023" help:"Whose behaviour to follow: current is PostHog's of 2026, 2023 that of December 2023. Selects evaluation order, the rule for blank flags and the errors of /decide together."`
	FlagsByProject bool          `help:"Give every team the flags of all teams of its project, as PostHog did from December 2024 to 2025."`
	MaxMemory      string        `default:"1GiB" help:"Limit for definitions in memory. Past it compiled flags that were not used for long are dropped and compiled again on demand."`
	RegexTimeout   time.Duration `default:"5ms" help:"Limit for one pattern that needs backtracking, on one property; past it the pattern does not match."`

	Public publicSettings `embed:"" group:"Public listener:"`

	Serve   struct{}       `cmd:"" default:"withargs" help:"Answer flag requests (the default)."`
	Eval    evalSettings   `cmd:"" help:"Explain what a user gets, step by step, from Redis or from a snapshot file."`
	Status  command.Format `cmd:"" help:"Show what a running decide serves; fails if it is not ready."`
	Version command.Format `cmd:"" help:"Print what was built: version, commit and its date, Go."`

	Completion command.Completion `cmd:"" help:"Print a script by which bash, zsh or fish completes commands and flags."`
}

// publicSettings are those of the public listener.
type publicSettings struct {
	Addr               string        `default:":8000" help:"Address of the public listener."`
	TLSCert            string        `name:"tls-cert" placeholder:"FILE" help:"Serve TLS with this certificate chain (PEM); a changed file is used without a restart."`
	TLSKey             string        `name:"tls-key" placeholder:"FILE" help:"Private key (PEM) of --tls-cert."`
	StaleAfter         time.Duration `default:"30s" help:"Age of the last heartbeat from which on answers carry X-Everflag-Stale."`
	DrainDelay         time.Duration `default:"5s" help:"How long to serve on after a signal, not ready, so that load balancers look elsewhere."`
	MaxConcurrent      int           `default:"1024" help:"Requests worked on at the same time; more are answered 503 with Retry-After."`
	TrustedProxies     []string      `placeholder:"CIDR" help:"Networks of proxies whose X-Forwarded-For is believed."`
	RateLimit          string        `default:"off" enum:"off,log,enforce" help:"Limits per client address and per token: ${enum}."`
	RateLimitClient    float64       `default:"50" help:"Requests per second and client address."`
	RateLimitToken     float64       `default:"10" help:"Requests per second and token."`
	DefinitionsKeyFile string        `placeholder:"FILE" help:"Secret keys for local evaluation beside those in the team table: lines of a token and the SHA-256 of its key in hexadecimal."`
	GeoIPDB            string        `name:"geoip-db" placeholder:"FILE" help:"MaxMind database that fills the $geoip_ properties; without it they are unknown."`
}

func (s *settings) evalOptions() eval.Options {
	options := eval.Options{Rules: eval.RulesCurrent, RegexTimeout: s.RegexTimeout}
	if s.Rules == "2023" {
		options.Rules = eval.Rules2023
	}
	return options
}

// dialTimeout is short: a server that does not answer is asked again at once, and a packet that got lost while it was away must not delay that.
const dialTimeout = time.Second

// redisClient returns nil if there is only a snapshot file. Without either nothing would ever be there to serve.
func (s *settings) redisClient() (redis.UniversalClient, error) {
	if s.RedisURL == "" && s.SnapshotFile != "" {
		if _, err := os.Stat(s.SnapshotFile); err != nil {
			return nil, command.BadSettingf("--redis-url", "is not set, and --snapshot-file cannot take its place: %w", err)
		}
		return nil, nil //nolint:nilnil // because "no Redis" is a setting, which the store takes as nil
	}
	if err := flagcache.CheckPrefix(s.KeyPrefix); err != nil {
		return nil, command.BadSettingf("--key-prefix", "%w", err)
	}
	client, err := redisconn.Open(redisconn.Config{
		URL: s.RedisURL, ReadURL: command.SecretReader("DECIDE_REDIS_URL", s.RedisURL), CAFile: s.RedisCA, ClientName: "everflag-decide",
		DialTimeout: dialTimeout,
	})
	if err != nil {
		return nil, command.BadSettings{Err: err}
	}
	return client, nil
}

func (s *settings) storeConfig(client redis.UniversalClient, log *zap.Logger) (store.Config, error) {
	memory, err := command.ParseSize(s.MaxMemory)
	if err == nil && memory == 0 {
		err = errors.New("must be more than 0")
	}
	if err != nil {
		return store.Config{}, command.BadSettingf("--max-memory", "%w", err)
	}
	return store.Config{
		Client: client, Prefix: s.KeyPrefix, SnapshotFile: s.SnapshotFile, MaxMemory: memory, SharedByProject: s.FlagsByProject, Eval: s.evalOptions(), Logger: log,
	}, nil
}

var rateModes = map[string]decide.RateMode{"off": decide.RateOff, "log": decide.RateLog, "enforce": decide.RateEnforce}

// checkNumbers names the first number that cannot work. For the packages behind, zero means their own default, which nobody asked for.
func (s *settings) checkNumbers() error {
	o := &s.Public
	for _, number := range []struct {
		setting string
		works   bool
	}{
		{"--regex-timeout", s.RegexTimeout > 0},
		{"--stale-after", o.StaleAfter > 0},
		{"--max-concurrent", o.MaxConcurrent > 0},
		{"--rate-limit-client", o.RateLimitClient > 0},
		{"--rate-limit-token", o.RateLimitToken > 0},
	} {
		if !number.works {
			return command.BadSettingf(number.setting, "must be more than 0")
		}
	}
	if o.DrainDelay < 0 {
		return command.BadSettingf("--drain-delay", "must not be negative")
	}
	return nil
}

// handlerConfig also opens the files that the handler needs.
func (s *settings) handlerConfig() (decide.Config, error) {
	if err := s.checkNumbers(); err != nil {
		return decide.Config{}, err
	}
	o := &s.Public
	cfg := decide.Config{Rules: s.evalOptions().Rules, StaleAfter: o.StaleAfter, MaxConcurrent: o.MaxConcurrent}
	cfg.RateLimit = decide.RateLimit{Mode: rateModes[o.RateLimit], ClientRate: o.RateLimitClient, TokenRate: o.RateLimitToken}
	for _, text := range o.TrustedProxies {
		prefix, err := parsePrefix(text)
		if err != nil {
			return cfg, command.BadSettingf("--trusted-proxies", "%q is neither an address nor a network like 10.0.0.0/8", text)
		}
		cfg.TrustedProxies = append(cfg.TrustedProxies, prefix)
	}
	var err error
	if o.DefinitionsKeyFile != "" {
		if cfg.DefinitionKeys, err = decide.ReadDefinitionKeys(o.DefinitionsKeyFile); err != nil {
			return cfg, command.BadSettingf("--definitions-key-file", "%w", err)
		}
	}
	if o.GeoIPDB != "" {
		if cfg.GeoIP, err = decide.OpenGeoIP(o.GeoIPDB); err != nil {
			return cfg, command.BadSettingf("--geoip-db", "%w", err)
		}
	}
	return cfg, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("parsing an address: %w", err)
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}
