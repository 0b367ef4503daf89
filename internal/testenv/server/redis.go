package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Databases is the number of logical databases of every Redis started here: enough for each parallel test to have one of its own.
const Databases = 1024

var baseRedisConf = map[string]string{
	"databases":  strconv.Itoa(Databases),
	"save":       `""`,
	"appendonly": "no",

	"repl-diskless-sync-delay": "0", // a first replica need not wait for others
}

// RedisConfig says which server to start.
type RedisConfig struct {
	Kind Kind
	Conf map[string]string // redis.conf directives
}

// Redis is a private server. Its address stays the same over any number of stops and starts. Its methods are for one goroutine at a time.
type Redis struct {
	Addr   string // host:port
	Socket string // path of the Unix socket; empty in a container
	Dir    string // where it keeps its files; empty in a container

	power
	password string
}

// StartRedis starts a server and returns when it answers commands.
func StartRedis(ctx context.Context, c RedisConfig) (*Redis, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the server did not become ready in time"))
	defer cancel()
	conf := maps.Clone(baseRedisConf)
	maps.Copy(conf, c.Conf)
	r, err := firstOf(c.Kind,
		func() (*Redis, error) { return newContainerRedis(ctx, conf) },
		func() (*Redis, error) { return newLocalRedis(conf) })
	if err != nil {
		return nil, err
	}
	return r, r.Start(ctx)
}

func newLocalRedis(conf map[string]string) (*Redis, error) {
	bin, err := findRedis()
	if err != nil {
		return nil, err
	}
	ws, err := use()
	if err != nil {
		return nil, err
	}
	dir, err := ws.dir("redis-", nil)
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	r := &Redis{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Socket: filepath.Join(dir, "redis.sock"), Dir: dir, password: conf["requirepass"],
	}
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\nunixsocket %s\ndir %s\ndaemonize no\n%s", port, r.Socket, dir, directives(conf))
	file := filepath.Join(dir, "redis.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	r.machine = &process{argv: []string{bin, file}, dir: dir, logFile: filepath.Join(dir, "log"), polite: ending{"TERM", syscall.SIGTERM}, ws: ws}
	return r, nil
}

func directives(conf map[string]string) string {
	text := new(strings.Builder)
	for _, name := range slices.Sorted(maps.Keys(conf)) {
		fmt.Fprintf(text, "%s %s\n", name, conf[name])
	}
	return text.String()
}

// URL returns the address of a logical database.
func (r *Redis) URL(database int) string {
	u := url.URL{Scheme: "redis", Host: r.Addr, Path: "/" + strconv.Itoa(database)}
	if r.password != "" {
		u.User = url.UserPassword("", r.password)
	}
	return u.String()
}

// Start starts a stopped server and returns when it answers commands.
func (r *Redis) Start(ctx context.Context) error {
	if err := r.machine.start(ctx); err != nil {
		return err
	}
	return poll(ctx, "waiting for Redis to answer", func() error {
		if r.machine.ended() {
			return &finalError{fmt.Errorf("starting Redis: it ended at once:\n%s", tail(r.Log(ctx)))}
		}
		answer, err := ask(r.Addr, "", "PING")
		// Any answer but "I am loading" will do: a server that asks for a password is ready too.
		if err == nil && strings.HasPrefix(answer, "-LOADING") {
			err = errors.New(answer)
		}
		return err
	})
}

// ask sends one inline command and returns the answer to it, at most a packet long. A whole client would leave goroutines behind.
func ask(addr, password, command string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	answer := make([]byte, 16<<10)
	if password != "" {
		if _, err := conn.Write([]byte("AUTH " + password + "\r\n")); err != nil {
			return "", err
		}
		if _, err := conn.Read(answer); err != nil {
			return "", err
		}
	}
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

// Replica starts a server that replicates this one, with further directives, and returns when the link is up.
func (r *Redis) Replica(ctx context.Context, conf map[string]string) (*Redis, error) {
	if r.Dir == "" {
		return nil, &MissingError{What: "replica of a container", Looked: "the server runs in Docker; TEST_SERVERS=local has it"}
	}
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{"replicaof": host + " " + port}
	if r.password != "" {
		settings["masterauth"], settings["requirepass"] = r.password, r.password
	}
	maps.Copy(settings, conf)
	replica, err := StartRedis(ctx, RedisConfig{Kind: Local, Conf: settings})
	if err != nil {
		return nil, err
	}
	return replica, poll(ctx, "waiting for the replica to follow", func() error {
		answer, err := ask(replica.Addr, replica.password, "INFO replication")
		if err == nil && !strings.Contains(answer, "master_link_status:up") {
			err = errors.New(answer)
		}
		return err
	})
}

// Stop asks the server to end, which saves what its configuration says it saves, and returns when it has ended.
func (r *Redis) Stop(ctx context.Context) error {
	if err := r.machine.signal(ctx, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping Redis: %w", err)
	}
	return r.machine.wait(ctx)
}

// Close ends the server in whatever state it is and removes its files.
func (r *Redis) Close(ctx context.Context) error {
	if err := r.machine.remove(ctx); err != nil {
		return fmt.Errorf("removing Redis: %w", err)
	}
	if r.Dir == "" {
		return nil
	}
	return os.RemoveAll(r.Dir)
}
