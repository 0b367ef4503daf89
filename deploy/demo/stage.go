package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	posthogsql "github.com/everflag/everflag/deploy/sql"
	"github.com/everflag/everflag/internal/testenv/server"
)

const database = "posthog"

// stage is all that the demo starts.
type stage struct {
	dir        string // of the snapshot files; removed with the servers
	postgres   *server.Postgres
	redis      *server.Redis
	replicator *program
	decide     []*program
	db         *pgx.Conn
	answers    []string // what users got before anything was broken
}

// open starts everything in order and waits until it answers.
func (s *stage) open(ctx context.Context) error {
	var err error
	if s.dir, err = server.Dir("demo-"); err != nil {
		return err
	}
	if s.postgres, err = server.StartPostgres(ctx, server.PostgresConfig{}); err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	if s.redis, err = server.StartRedis(ctx, server.RedisConfig{}); err != nil {
		return fmt.Errorf("starting Redis: %w", err)
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	started := time.Now()
	if s.replicator, err = s.start("replicator", "replicator", "run", "--postgres-url", s.postgres.URL(database), "--redis-url", s.redis.URL(0)); err != nil {
		return err
	}
	for i := range 2 {
		p, err := s.startDecide(i)
		if err != nil {
			return err
		}
		s.decide = append(s.decide, p)
	}
	for _, p := range append([]*program{s.replicator}, s.decide...) {
		if err := p.ready(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("   Postgres    %s\n   Redis       %s\n", s.postgres.URL(database), s.redis.URL(0))
	for _, p := range append([]*program{s.replicator}, s.decide...) {
		fmt.Println(p.describe())
	}
	fmt.Printf("   First copy of the tables served %d ms after the start of the programs\n", time.Since(started).Milliseconds())
	return nil
}

// load creates the database with PostHog's tables and the seed.
func (s *stage) load(ctx context.Context) error {
	err := s.postgres.Do(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "CREATE DATABASE "+database)
		return err
	})
	if err != nil {
		return fmt.Errorf("creating the database: %w", err)
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	for _, name := range []string{"posthog_2026.sql", "seed_2026.sql"} {
		text, err := posthogsql.Files.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := s.db.Exec(ctx, string(text)); err != nil {
			return fmt.Errorf("loading %s: %w", name, err)
		}
	}
	return nil
}

func (s *stage) connect(ctx context.Context) (err error) {
	s.db, err = pgx.Connect(ctx, s.postgres.URL(database))
	return err
}

func (s *stage) startDecide(i int) (*program, error) {
	port, err := server.FreePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p, err := s.start(fmt.Sprintf("decide %d", i+1), "decide", "serve", "--redis-url", s.redis.URL(0), "--addr", addr,
		"--snapshot-file", filepath.Join(s.dir, fmt.Sprintf("decide-%d.snapshot", i)), "--drain-delay", "0s")
	if p != nil {
		p.addr = addr
	}
	return p, err
}

// start runs one of our programs with a free admin port.
func (s *stage) start(name, binary string, args ...string) (*program, error) {
	port, err := server.FreePort()
	if err != nil {
		return nil, err
	}
	p := &program{name: name, admin: fmt.Sprintf("127.0.0.1:%d", port), ended: make(chan struct{})}
	p.command = exec.Command(filepath.Join("bin", binary), append(args, "--admin-addr", p.admin)...)
	p.command.Stderr = &p.log
	// Ctrl-C reaches the demo alone, which stops its programs in order.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	release, err := server.Adopt(p.command.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, p.command.Process.Kill())
	}
	go func() {
		_ = p.command.Wait() // how it ended shows in its log; a program that was killed on purpose has nothing to report
		release()
		close(p.ended)
	}()
	return p, nil
}

// close stops everything, in the reverse order of open.
func (s *stage) close() error {
	// The demo's context may have ended; cleaning up must not depend on it.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, p := range append(s.decide, s.replicator) {
		if p != nil {
			errs = append(errs, p.stop(ctx, syscall.SIGTERM))
		}
	}
	if s.db != nil {
		_ = s.db.Close(ctx) // the server may be gone already
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Close(ctx))
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Close(ctx))
	}
	return errors.Join(append(errs, server.Cleanup())...)
}

// hold waits for Ctrl-C.
func (s *stage) hold() error {
	fmt.Print("\nStill running. Open the pages\n")
	for _, p := range append([]*program{s.replicator}, s.decide...) {
		fmt.Printf("   http://%s   %s\n", p.admin, p.name)
	}
	fmt.Printf("change a flag and see it there\n   psql '%s' -c \"UPDATE posthog_featureflag SET active = NOT active WHERE key = 'dark-mode'\"\n", s.postgres.URL(database))
	fmt.Printf("ask for the flags of a user, and why they are so\n   curl -s 'http://%s/flags/?v=2' --json '{\"token\":\"%s\",\"distinct_id\":\"ada\"}'\n", s.decide[0].addr, posthogsql.DemoToken)
	fmt.Printf("   bin/decide --redis-url %s eval %s ada --properties '{\"country\":\"US\"}'\n", s.redis.URL(0), posthogsql.DemoToken)
	fmt.Printf("and see what an operator sees\n   bin/replicator --admin-url http://%s status\n", s.replicator.admin)
	fmt.Println("Ctrl-C stops and removes everything.")
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	<-signals
	return nil
}

// program is one running program of ours.
type program struct {
	name, admin, addr string
	command           *exec.Cmd
	log               bytes.Buffer // read only after ended is closed
	ended             chan struct{}
}

func (p *program) describe() string {
	text := fmt.Sprintf("   %-11s admin http://%s", p.name, p.admin)
	if p.addr != "" {
		text += "   flags http://" + p.addr
	}
	return text
}

// ready waits until the program says so.
func (p *program) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, fmt.Errorf("%s is not ready after 30 s", p.name))
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close() // only the status is of interest
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended:\n%s", p.name, strings.TrimSpace(p.log.String()))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop signals the program and waits for its end.
func (p *program) stop(ctx context.Context, s syscall.Signal) error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := p.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopping %s: %w", p.name, errors.Join(ctx.Err(), p.command.Process.Kill()))
	}
}
