package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const pollInterval = 3 * time.Millisecond

// process is a server that runs as an operating system process. It is waited for by polling, never by a goroutine: a server that is shared by all tests
// of a package must not look like a leak to any of them.
type process struct {
	argv    []string
	owner   *owner
	dir     string // working directory
	logFile string
	polite  ending

	ws *workspace

	mu     sync.Mutex
	pid    int // 0 when not running
	frozen []int
}

// ending is the signal that ends a process soon and in order.
type ending struct {
	name   string // as kill(1) knows it
	signal syscall.Signal
}

func (p *process) start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid != 0 {
		return errors.New("already running")
	}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log file: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = p.dir, log, log, p.owner.attributes()
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "PGDATA=")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.argv[0], err)
	}
	p.pid = cmd.Process.Pid
	if err := cmd.Process.Release(); err != nil {
		return fmt.Errorf("releasing the process handle: %w", err)
	}
	return p.ws.track(p)
}

func (p *process) note() string { return pidNote(p.pid, p.polite.name) }

// ended reports whether the process is not running, and collects it if it has just ended.
func (p *process) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		return true
	}
	got, err := unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
	if got == 0 && err == nil || errors.Is(err, unix.EINTR) {
		return false
	}
	p.ws.untrack(p) // also when Wait4 fails: then there is no such child any more
	p.pid = 0
	return true
}

func (p *process) signal(_ context.Context, s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		return errors.New("not running")
	}
	return syscall.Kill(p.pid, s)
}

// wait returns when the process has ended.
func (p *process) wait(ctx context.Context) error {
	return poll(ctx, "waiting for the server to end", func() error {
		if !p.ended() {
			return errors.New("still running")
		}
		return nil
	})
}

// kill ends the process and its children at once and returns when all are gone, so that a restart finds the port, the files and the shared memory free.
func (p *process) kill(ctx context.Context) error {
	p.mu.Lock()
	pid := p.pid
	p.mu.Unlock()
	if pid == 0 {
		return errors.New("not running")
	}
	// The parent first: it must not have the time to start another child or to notice that one died.
	if err := p.signal(ctx, syscall.SIGSTOP); err != nil {
		return err
	}
	family, err := children(pid)
	if err != nil {
		return err
	}
	if err := p.signal(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	for _, child := range family {
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	if err := p.wait(ctx); err != nil {
		return err
	}
	p.forgetFrozen()
	return poll(ctx, "waiting for the children of the server to end", func() error {
		for _, child := range family {
			if running(child) {
				return fmt.Errorf("process %d is still running", child)
			}
		}
		return nil
	})
}

// freeze stops the process and its children in their tracks: connections stay open and nothing answers.
func (p *process) freeze(ctx context.Context) error {
	if err := p.signal(ctx, syscall.SIGSTOP); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	family, err := children(p.pid)
	if err != nil {
		return err
	}
	for _, child := range family {
		if err := syscall.Kill(child, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if err := os.WriteFile(p.ws.pidFile(child, "CONT"), nil, 0o600); err != nil {
			return err
		}
	}
	p.frozen = family
	return nil
}

func (p *process) thaw(ctx context.Context) error {
	for _, child := range p.forgetFrozen() {
		if err := syscall.Kill(child, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return p.signal(ctx, syscall.SIGCONT)
}

func (p *process) forgetFrozen() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	family := p.frozen
	p.frozen = nil
	for _, child := range family {
		_ = os.Remove(p.ws.pidFile(child, "CONT")) // gone together with the workspace at worst
	}
	return family
}

// end asks the process to end, thawing it first if need be, and returns when it has.
func (p *process) end(ctx context.Context) error {
	if p.ended() {
		return nil
	}
	if err := p.thaw(ctx); err != nil {
		return err
	}
	if err := p.signal(ctx, p.polite.signal); err != nil {
		return err
	}
	return p.wait(ctx)
}

// remove ends the process, whatever state it is in. Its files go with the workspace, or earlier by whoever made them.
func (p *process) remove(ctx context.Context) error {
	if err := p.end(ctx); err != nil {
		return p.kill(ctx)
	}
	return nil
}

func (p *process) log(context.Context) string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		return "no log: " + err.Error()
	}
	return string(text)
}

// tail returns the last lines of a log.
func tail(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// poll calls condition until it returns nil; what names the step in the error.
func poll(ctx context.Context, what string, condition func() error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if stop, ok := errors.AsType[*finalError](err); ok {
			return stop.err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; last seen: %w", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// finalError ends a poll at once.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
