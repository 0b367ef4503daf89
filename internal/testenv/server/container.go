package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"golang.org/x/sys/unix"
)

const (
	pingTimeout = 5 * time.Second  // an engine that is not there refuses at once, one on a busy machine takes its time
	pullTimeout = 60 * time.Second // an image that takes longer is not worth the wait when binaries are at hand

	defaultPostgresTag = "17"
	defaultRedisImage  = "redis:7"
)

// engine is the Docker engine of this machine, looked for once. Its absence costs milliseconds.
var engine = sync.OnceValues(func() (*client.Client, error) {
	tclog.SetDefault(stdlog.New(io.Discard, "", 0))
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return nil, &MissingError{What: "Docker engine", Looked: err.Error()}
	}
	if _, err := docker.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, &MissingError{What: "Docker engine", Looked: err.Error()}
	}
	return docker.Client, nil
})

// images remembers which images could not be had, so that only the first server waits for a pull that fails.
var images sync.Map // image name → func() error

// image makes sure that an image is there, pulling it if that is quick.
func image(docker *client.Client, name string) error {
	ensure, _ := images.LoadOrStore(name, sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), pullTimeout)
		defer cancel()
		if _, err := docker.ImageInspect(ctx, name); err == nil {
			return nil
		}
		pull, err := docker.ImagePull(ctx, name, client.ImagePullOptions{})
		if err == nil {
			err = errors.Join(pull.Wait(ctx), pull.Close())
		}
		if err != nil {
			return &MissingError{What: "image " + name, Looked: err.Error()}
		}
		return nil
	}))
	return ensure.(func() error)()
}

// container is a server that runs in a container. Its port on this machine is fixed, so that it survives stops and starts.
type container struct {
	docker *client.Client
	made   testcontainers.Container
	id     string
	addr   string
	ws     *workspace
}

// hangUp closes idle connections to the engine, which would look like leaked goroutines.
func hangUp(docker *client.Client) { _ = docker.Close() }

// newContainer makes a container, not yet started, whose port is reachable at the returned address.
func newContainer(ctx context.Context, name, port string, env map[string]string, cmd []string) (*container, error) {
	docker, err := engine()
	if err != nil {
		return nil, err
	}
	defer hangUp(docker)
	if err := image(docker, name); err != nil {
		return nil, err
	}
	ws, err := use()
	if err != nil {
		return nil, err
	}
	outside, err := FreePort()
	if err != nil {
		return nil, err
	}
	inside, err := network.ParsePort(port)
	if err != nil {
		return nil, err
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	made, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Image: name, Env: env, Cmd: cmd, ExposedPorts: []string{port},
			HostConfigModifier: func(host *apicontainer.HostConfig) {
				host.PortBindings = network.PortMap{inside: {{HostIP: loopback, HostPort: fmt.Sprint(outside)}}}
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making a container of %q: %w", name, err)
	}
	c := &container{docker: docker, made: made, id: made.GetContainerID(), addr: fmt.Sprintf("127.0.0.1:%d", outside), ws: ws}
	return c, ws.track(c)
}

func (c *container) note() string { return filepath.Join("containers", c.id) }

func (c *container) start(ctx context.Context) error {
	defer hangUp(c.docker)
	_, err := c.docker.ContainerStart(ctx, c.id, client.ContainerStartOptions{})
	return err
}

func (c *container) signal(ctx context.Context, s syscall.Signal) error {
	defer hangUp(c.docker)
	_, err := c.docker.ContainerKill(ctx, c.id, client.ContainerKillOptions{Signal: unix.SignalName(s)})
	return err
}

func (c *container) wait(ctx context.Context) error {
	return poll(ctx, "waiting for the container to end", func() error {
		if !c.ended() {
			return errors.New("still running")
		}
		return nil
	})
}

func (c *container) ended() bool {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	state, err := c.made.State(ctx)
	return err == nil && !state.Running
}

func (c *container) kill(ctx context.Context) error {
	if err := c.signal(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	return c.wait(ctx)
}

func (c *container) freeze(ctx context.Context) error {
	defer hangUp(c.docker)
	_, err := c.docker.ContainerPause(ctx, c.id, client.ContainerPauseOptions{})
	return err
}

func (c *container) thaw(ctx context.Context) error {
	defer hangUp(c.docker)
	_, err := c.docker.ContainerUnpause(ctx, c.id, client.ContainerUnpauseOptions{})
	return err
}

func (c *container) remove(ctx context.Context) error {
	defer hangUp(c.docker)
	_, err := c.docker.ContainerRemove(ctx, c.id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil {
		return err
	}
	c.ws.untrack(c)
	return nil
}

// end has no use for politeness: nobody will read the data again.
func (c *container) end(ctx context.Context) error { return c.remove(ctx) }

func (c *container) log(ctx context.Context) string {
	logs, err := c.made.Logs(ctx)
	if err != nil {
		return "no log: " + err.Error()
	}
	defer logs.Close()
	text, err := io.ReadAll(logs)
	if err != nil {
		return "no log: " + err.Error()
	}
	return string(text)
}

func newContainerPostgres(ctx context.Context, version string, conf map[string]string) (*Postgres, error) {
	env := map[string]string{
		"POSTGRES_USER": User, "POSTGRES_PASSWORD": Password, "POSTGRES_DB": "postgres", "POSTGRES_INITDB_ARGS": "--no-sync --encoding=UTF8 --locale=C",
	}
	cmd := []string{"postgres"}
	for name, value := range conf {
		cmd = append(cmd, "-c", name+"="+value)
	}
	tag := cmp.Or(version, defaultPostgresTag)
	made, err := newContainer(ctx, "postgres:"+tag, "5432/tcp", env, cmd)
	if err != nil {
		return nil, err
	}
	return &Postgres{Addr: made.addr, Version: tag, power: power{made}}, nil
}

func newContainerRedis(ctx context.Context, conf map[string]string) (*Redis, error) {
	var cmd []string // the images of Redis and Valkey take options alone as options of their server
	for line := range strings.Lines(directives(conf)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		cmd = append(cmd, "--"+name, strings.Trim(value, `"`))
	}
	made, err := newContainer(ctx, cmp.Or(os.Getenv("TEST_REDIS_IMAGE"), defaultRedisImage), "6379/tcp", nil, cmd)
	if err != nil {
		return nil, err
	}
	return &Redis{Addr: made.addr, password: conf["requirepass"], power: power{made}}, nil
}
