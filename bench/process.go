package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/everflag/everflag/internal/testenv/server"
)

// process is a program under measurement.
type process struct {
	name    string
	admin   string // address of the private listener; empty if it has none
	pid     int
	started time.Time
	cmd     *exec.Cmd
	log     bytes.Buffer // read only after ended is closed
	ended   chan struct{}
}

// start runs a program on a core. Its environment is ours without the settings of our programs. It is stopped at the end of the section at the latest.
func (h *harness) start(cpu int, env []string, argv ...string) (*process, error) {
	p := &process{name: filepath.Base(argv[0]), ended: make(chan struct{})}
	p.cmd = exec.Command(h.on(cpu, argv)[0], h.on(cpu, argv)[1:]...)
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "REPLICATOR_") && !strings.HasPrefix(setting, "DECIDE_") {
			p.cmd.Env = append(p.cmd.Env, setting)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the harness, which stops its programs in order
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	p.pid = p.cmd.Process.Pid
	release, err := server.Adopt(p.pid)
	if err != nil {
		return nil, errors.Join(err, p.cmd.Process.Kill())
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		release()
		close(p.ended)
	}()
	h.cleanup(p.stop)
	return p, nil
}

// on is a command line that runs on a core; taskset replaces itself by the program, so the process is the program's.
func (h *harness) on(cpu int, argv []string) []string {
	if cpu == anyCPU || !h.pinned {
		return argv
	}
	return append([]string{"taskset", "-c", strconv.Itoa(cpu)}, argv...)
}

// await waits for the end of a program that ends by itself.
func (p *process) await(ctx context.Context, timeout time.Duration) error {
	select {
	case <-p.ended:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(timeout):
		return fmt.Errorf("%s still runs after %v", p.name, timeout)
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %v\n%s", p.name, p.cmd.ProcessState, strings.TrimSpace(p.log.String()))
	}
	return nil
}

// ready waits until the program says that it is.
func (p *process) ready(ctx context.Context) error {
	return pollStatus(ctx, 2*time.Minute, p.name+" to be ready", func() (bool, error) {
		select {
		case <-p.ended:
			return false, fmt.Errorf("%s ended: %s", p.name, strings.TrimSpace(p.log.String()))
		default:
		}
		response, err := http.Get("http://" + p.admin + "/readyz")
		if err != nil {
			return false, nil
		}
		_ = response.Body.Close() // only the status is of interest
		return response.StatusCode == http.StatusOK, nil
	})
}

const profileSpan = 5 * time.Second

// profile keeps a CPU profile of what p does while f runs, and a heap profile of what it holds then, if profiles are wanted.
func (h *harness) profile(p *process, name string, f func() error) error {
	if h.profiles == "" {
		return nil
	}
	fetched := make(chan error, 1)
	go func() {
		err := h.fetch(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", p.admin, profileSpan.Seconds()), name+".cpu.pprof")
		fetched <- errors.Join(err, h.fetch("http://"+p.admin+"/debug/pprof/heap", name+".heap.pprof"))
	}()
	return errors.Join(f(), <-fetched)
}

func (h *harness) fetch(address, name string) error {
	response, err := http.Get(address)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	file, err := os.Create(filepath.Join(h.profiles, name))
	if err != nil {
		return err
	}
	_, err = file.ReadFrom(response.Body)
	return errors.Join(err, file.Close())
}

// stop ends the program in order and waits for that.
func (p *process) stop() error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // it may have ended meanwhile, here and below
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop within 30 s and was killed", p.name)
	}
}

// usage is what a process has consumed.
type usage struct {
	ran    time.Duration // on a core
	waited time.Duration // ready to run, while others had the core
}

// used sums over the threads. Go keeps its threads, so none that has ended is missing.
func (p *process) used() usage {
	var u usage
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid)) // the only error is a malformed pattern
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var ran, waited int64
		if _, err := fmt.Sscan(string(text), &ran, &waited); err == nil {
			u.ran += time.Duration(ran)
			u.waited += time.Duration(waited)
		}
	}
	return u
}

func (u usage) since(before usage) usage { return usage{u.ran - before.ran, u.waited - before.waited} }

// memory is a figure of /proc/<pid>/status in MB: VmRSS is the resident set, VmHWM the largest it has been.
func (p *process) memory(name string) float64 {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), name+":"); found {
			kilobytes, _ := strconv.ParseFloat(strings.Fields(value)[0], 64) // the kernel prints a number
			return kilobytes / 1024
		}
	}
	return 0
}
