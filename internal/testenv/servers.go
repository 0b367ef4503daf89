package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv/server"
)

// stepTimeout bounds every single thing the kit does with a server.
const stepTimeout = 60 * time.Second

// choice is what TEST_SERVERS asks for.
type choice struct {
	env  bool        // use TEST_POSTGRES_URL and TEST_REDIS_URL if set
	kind server.Kind // where else servers come from
	only bool        // nothing else: "env" without an address is a missing server
}

// own is where a server for one test comes from.
func (c choice) own(process bool) server.Kind {
	if process {
		return server.Local
	}
	return c.kind
}

func chosen() (choice, error) {
	switch value := os.Getenv("TEST_SERVERS"); value {
	case "":
		return choice{env: true}, nil
	case "env":
		return choice{env: true, only: true}, nil
	case string(server.Docker), string(server.Local):
		return choice{kind: server.Kind(value)}, nil
	default:
		return choice{}, fmt.Errorf("TEST_SERVERS=%q: want env, docker or local", value)
	}
}

// sharedPostgres and sharedRedis are the servers of this test process, started by the first test that asks. They last until Main, or until the process
// has ended and its reaper cleans up.
var (
	sharedPostgres = sync.OnceValues(startSharedPostgres)
	sharedRedis    = sync.OnceValues(startSharedRedis)
)

func startSharedPostgres() (adminURL string, err error) {
	c, err := chosen()
	if err != nil {
		return "", err
	}
	if address := os.Getenv("TEST_POSTGRES_URL"); c.env && address != "" {
		return address, checkGivenPostgres(address)
	}
	if c.only {
		return "", &server.MissingError{What: "Postgres", Looked: "TEST_POSTGRES_URL, which is empty"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	pg, err := server.StartPostgres(ctx, server.PostgresConfig{Kind: c.kind, Version: os.Getenv("TEST_POSTGRES_VERSION")})
	if err != nil {
		return "", err
	}
	return pg.URL("postgres"), nil
}

// redisAddress is the shared Redis.
type redisAddress struct {
	url   string
	slots chan int // free logical databases; nil if the server is not ours and its databases are not ours to hand out
	own   *server.Redis
}

func startSharedRedis() (redisAddress, error) {
	c, err := chosen()
	if err != nil {
		return redisAddress{}, err
	}
	if address := os.Getenv("TEST_REDIS_URL"); c.env && address != "" {
		return redisAddress{url: address}, nil
	}
	if c.only {
		return redisAddress{}, &server.MissingError{What: "Redis", Looked: "TEST_REDIS_URL, which is empty"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	own, err := server.StartRedis(ctx, server.RedisConfig{Kind: c.kind})
	if err != nil {
		return redisAddress{}, err
	}
	slots := make(chan int, server.Databases)
	for n := range server.Databases {
		slots <- n
	}
	return redisAddress{url: own.URL(0), own: own, slots: slots}, nil
}

// require ends the test if a server could not be had: as Missing says if there is none, as a failure if something is there but does not work.
func require(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if _, missing := errors.AsType[*server.MissingError](err); missing {
		Missing(t, err.Error()+"; `make test` sets servers up, TEST_POSTGRES_URL and TEST_REDIS_URL name your own")
	}
	t.Fatal(err)
}

// step runs one bounded action on a server and ends the test if it fails. It does not use t.Context, which is already cancelled during cleanup.
func step(t testing.TB, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), stepTimeout, fmt.Errorf("%s took longer than %v", what, stepTimeout))
	defer cancel()
	if err := f(ctx); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
