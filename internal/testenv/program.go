package testenv

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/everflag/everflag/internal/testenv/server"
)

const (
	buildTimeout = 5 * time.Minute // a cold build cache on a busy machine
	logTimeout   = 20 * time.Second
)

// built remembers the binaries of this test process.
var built sync.Map // package and tags → func() (string, error)

// Build compiles a main package of this module, e.g. "cmd/replicator", and returns the path of the binary. It does so once per test process, and a run
// that changes nothing only checks that.
func Build(t testing.TB, pkg string, tags ...string) string {
	t.Helper()
	build, _ := built.LoadOrStore(pkg+" "+strings.Join(tags, ","), sync.OnceValues(func() (string, error) { return buildProgram(pkg, tags) }))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatalf("building %s: %v", pkg, err)
	}
	return path
}

// buildProgram keeps the binary in the cache directory, where the go command finds it up to date, and gives out a copy: another test process may rebuild
// it meanwhile.
func buildProgram(pkg string, tags []string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cache, err := server.CacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(root + " " + strings.Join(tags, ",")))
	kept := filepath.Join(cache, "bin", hex.EncodeToString(sum[:6]), filepath.Base(pkg))
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(kept+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("locking %q: %w", lock.Name(), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-tags="+strings.Join(tags, ","), "-o", kept, "./"+pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	dir, err := server.Dir("bin-")
	if err != nil {
		return "", err
	}
	binary, err := os.ReadFile(kept)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(pkg))
	return path, os.WriteFile(path, binary, 0o755)
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory")
		}
	}
}

// Program is a running binary. It is killed when the test ends, if it still runs; what it logged is shown if the test failed.
type Program struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed once it has ended and all output has been read

	mu     sync.Mutex // guards what follows
	lines  []string
	more   chan struct{} // closed and replaced at each line
	stdout bytes.Buffer
}

// Run starts a binary. Its environment is what env says ("NAME=value") and nothing else but PATH, HOME and TMPDIR, so that the settings of whoever runs
// the tests do not reach it.
func Run(t testing.TB, binary string, env []string, args ...string) *Program {
	t.Helper()
	p := &Program{cmd: exec.Command(binary, args...), ended: make(chan struct{}), more: make(chan struct{})}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		p.cmd.Env = append(p.cmd.Env, name+"="+os.Getenv(name))
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C on the terminal is for the test
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatalf("running %s: %v", binary, err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("running %s: %v", binary, err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("running %s: %v", binary, err)
	}
	release, err := server.Adopt(p.cmd.Process.Pid)
	if err != nil {
		t.Errorf("telling the reaper of %s: %v", binary, err)
		release = func() {}
	}
	go p.follow(stdout, stderr, release)
	t.Cleanup(func() {
		p.Kill(t)
		if t.Failed() {
			t.Logf("%s logged:\n%s", filepath.Base(binary), strings.Join(p.Logs(), "\n"))
		}
	})
	return p
}

// follow reads all output, then collects the process.
func (p *Program) follow(stdout, stderr io.Reader, release func()) {
	var both sync.WaitGroup
	both.Go(func() {
		reader := bufio.NewReader(stderr)
		for {
			line, err := reader.ReadString('\n')
			if line != "" {
				p.add(strings.TrimSuffix(line, "\n"))
			}
			if err != nil {
				return
			}
		}
	})
	both.Go(func() {
		_, _ = io.Copy(lockedWriter{p}, stdout) // ends with the process, one way or another
	})
	both.Wait()
	_ = p.cmd.Wait() // how it ended is in ProcessState
	release()
	close(p.ended)
}

func (p *Program) add(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	close(p.more)
	p.more = make(chan struct{})
}

type lockedWriter struct{ p *Program }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.stdout.Write(b)
}

// Logs returns the lines written to standard error so far.
func (p *Program) Logs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

// Stdout returns what was written to standard output so far.
func (p *Program) Stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

// WaitForLog returns the first line that contains text, waiting for it if need be.
func (p *Program) WaitForLog(t testing.TB, text string) string {
	t.Helper()
	return p.WaitForLogs(t, text, 1)[0]
}

// WaitForLogs returns the lines that contain text once there are at least n of them, e.g. the second reconnect after the first.
func (p *Program) WaitForLogs(t testing.TB, text string, n int) []string {
	t.Helper()
	timeout := time.After(logTimeout)
	for ended := false; ; {
		p.mu.Lock()
		more := p.more
		found := slices.DeleteFunc(slices.Clone(p.lines), func(line string) bool { return !strings.Contains(line, text) })
		p.mu.Unlock()
		if len(found) >= n {
			return found
		}
		if ended {
			t.Fatalf("the program ended (%v) with %d of %d log lines that contain %q", p.cmd.ProcessState, len(found), n, text)
		}
		select {
		case <-more:
		case <-p.ended:
			ended = true // look once more: the last lines came before the end
		case <-timeout:
			t.Fatalf("within %v only %d of %d log lines contain %q", logTimeout, len(found), n, text)
		}
	}
}

// Signal sends a signal.
func (p *Program) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("sending %v: %v", s, err)
	}
}

// Kill ends the program with SIGKILL, if it still runs, and returns when it has ended.
func (p *Program) Kill(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("killing: %v", err)
	}
	p.Wait(t)
}

// Wait returns the exit code once the program has ended; -1 if a signal ended it.
func (p *Program) Wait(t testing.TB) int {
	t.Helper()
	return p.WaitWithin(t, stepTimeout)
}

// WaitWithin is Wait for a program that has to end by itself, by then.
func (p *Program) WaitWithin(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("the program still runs after %v", limit)
		return 0
	}
}

// Resident is the resident memory of a process in bytes.
func Resident(t testing.TB, pid int) int64 {
	t.Helper()
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		Missing(t, "no /proc, as Linux has it: "+err.Error())
	}
	var size, pages int64
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err == nil {
		_, err = fmt.Sscan(string(text), &size, &pages)
	}
	if err != nil {
		t.Fatalf("the memory of a process: %v", err)
	}
	return pages * int64(os.Getpagesize())
}

// PID returns the process identifier.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Ended is closed once the program has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }
