package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaperScript waits until the process that holds its standard input has ended, then ends what that process registered and removes its files.
// A registration is a file: pids/<pid>.<signal>, with the signal that ends the process politely before SIGKILL does, or containers/<id>.
const reaperScript = `
trap "" INT TERM HUP QUIT
cat >/dev/null
each() { for f in "$1"/pids/*; do [ -e "$f" ] || continue; n=${f##*/}; pid=${n%%.*}; sig=${n##*.}; eval "$2"; done; }
each "$1" 'kill -CONT $pid; kill -$sig $pid'
for i in 1 2 3 4 5 6 7 8 9 10; do
	left=; each "$1" 'kill -0 $pid && left=1'
	[ -z "$left" ] && break
	sleep 0.1
done
each "$1" 'kill -KILL $pid'
for f in "$1"/containers/*; do [ -e "$f" ] && docker rm -fv "${f##*/}"; done
for i in 1 2 3 4 5; do rm -rf "$1" "$2" && break; sleep 0.1; done
`

// workspace is the directory under which everything of this process lives, and the pipe whose end tells the reaper to clean up.
type workspace struct {
	root   string // in memory if possible
	disk   string // for what root may be too small for, or not allowed to execute
	pipe   *os.File
	reaper *exec.Cmd

	mu      sync.Mutex
	running map[tracked]bool
}

// tracked is what the workspace must see ended.
type tracked interface {
	end(ctx context.Context) error
	note() string // the file that tells the reaper, below the root
}

// current is the one workspace of this process. A process-wide value is right here: the reaper's pipe measures the life of the process itself.
var current struct {
	sync.Mutex
	ws *workspace
}

const cleanupTimeout = 20 * time.Second

// use returns the workspace, creating it if needed.
func use() (*workspace, error) {
	current.Lock()
	defer current.Unlock()
	if current.ws == nil {
		ws, err := newWorkspace()
		if err != nil {
			return nil, fmt.Errorf("creating the workspace: %w", err)
		}
		current.ws = ws
	}
	return current.ws, nil
}

// Cleanup ends every server that still runs, removes every file and returns when all is gone.
func Cleanup() error {
	current.Lock()
	ws := current.ws
	current.ws = nil
	current.Unlock()
	if ws == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), cleanupTimeout, errors.New("the servers did not end in time"))
	defer cancel()
	for _, server := range ws.left() {
		if err := server.end(ctx); err != nil {
			return err
		}
	}
	if err := ws.pipe.Close(); err != nil {
		return fmt.Errorf("closing the reaper's pipe: %w", err)
	}
	return ws.reaper.Wait()
}

func newWorkspace() (*workspace, error) {
	root, err := os.MkdirTemp(memory(), "everflag-")
	if err != nil {
		return nil, err
	}
	disk, err := os.MkdirTemp("", "everflag-")
	if err != nil {
		return nil, err
	}
	// The unprivileged user that Postgres runs as must be able to walk in.
	if err := os.Chmod(root, 0o755); err != nil {
		return nil, err
	}
	for _, register := range []string{"pids", "containers"} {
		if err := os.Mkdir(filepath.Join(root, register), 0o700); err != nil {
			return nil, err
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	reaper := exec.Command("/bin/sh", "-c", reaperScript, "everflag-reaper", root, disk)
	reaper.Stdin = read
	reaper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal for the terminal's group must not end it
	if err := reaper.Start(); err != nil {
		return nil, fmt.Errorf("starting the reaper: %w", err)
	}
	return &workspace{root: root, disk: disk, pipe: write, reaper: reaper, running: make(map[tracked]bool)}, nil
}

// memory returns a file system in memory with room to spare, or nothing, which means the usual place. A Postgres has a thousand files: to make and remove
// them there costs a third of what it costs on a disk. TMPDIR overrides it.
func memory() string {
	const shm, enough = "/dev/shm", 4 << 30
	var free unix.Statfs_t
	if os.Getenv("TMPDIR") != "" || unix.Statfs(shm, &free) != nil || free.Bavail*uint64(free.Bsize) < enough || unix.Access(shm, unix.W_OK) != nil {
		return ""
	}
	return shm
}

func (w *workspace) left() []tracked {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.running))
}

func (w *workspace) track(server tracked) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[server] = true
	return os.WriteFile(filepath.Join(w.root, server.note()), nil, 0o600)
}

func (w *workspace) untrack(server tracked) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, server)
	_ = os.Remove(filepath.Join(w.root, server.note())) // gone together with the workspace at worst
}

// dir makes a new directory inside the workspace, owned by the given user if that is not nil.
func (w *workspace) dir(pattern string, owner *owner) (string, error) {
	dir, err := os.MkdirTemp(w.root, pattern)
	if err != nil {
		return "", err
	}
	return dir, owner.take(dir)
}

// Adopt has the reaper kill a process that this one has started, should this one die first. The returned function takes it back, and must be called once
// the process has been waited for: its identifier may then be used again.
func Adopt(pid int) (release func(), err error) {
	ws, err := use()
	if err != nil {
		return nil, err
	}
	note := ws.pidFile(pid, "KILL")
	return func() { _ = os.Remove(note) }, os.WriteFile(note, nil, 0o600)
}

// Dir makes a new directory that lasts as long as this process. Programs in it can be executed.
func Dir(pattern string) (string, error) {
	ws, err := use()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(ws.disk, pattern)
}

func (w *workspace) pidFile(pid int, signal string) string {
	return filepath.Join(w.root, pidNote(pid, signal))
}

func pidNote(pid int, signal string) string {
	return filepath.Join("pids", strconv.Itoa(pid)+"."+signal)
}
