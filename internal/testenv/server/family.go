package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// children returns the direct children of a process: for Postgres, every backend, WAL sender and helper.
func children(parent int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	if len(stats) == 0 {
		return childrenFromPS(parent)
	}
	var found []int
	for _, stat := range stats {
		if pid, ppid, _, ok := readStat(stat); ok && ppid == parent {
			found = append(found, pid)
		}
	}
	return found, nil
}

// running reports whether a process exists and is not merely waiting to be collected.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	_, _, state, ok := readStat(fmt.Sprintf("/proc/%d/stat", pid))
	return !ok || state != "Z"
}

// readStat reads "pid (name) state ppid …"; the name may hold blanks and brackets.
func readStat(path string) (pid, ppid int, state string, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, "", false // ended meanwhile
	}
	before, after, found := cutLast(string(text), ")")
	fields := strings.Fields(after)
	if !found || len(fields) < 2 {
		return 0, 0, "", false
	}
	pid, errPid := strconv.Atoi(strings.Fields(before)[0])
	ppid, errPpid := strconv.Atoi(fields[1])
	return pid, ppid, fields[0], errPid == nil && errPpid == nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// childrenFromPS is for systems without /proc.
func childrenFromPS(parent int) ([]int, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var found []int
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		if _, err := fmt.Sscan(line, &pid, &ppid); err == nil && ppid == parent {
			found = append(found, pid)
		}
	}
	return found, nil
}
