package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

func cores() int { return runtime.NumCPU() }

// describeMachine is what somebody needs to know who compares two reports.
func describeMachine(ctx context.Context, h *harness) string {
	b := new(strings.Builder)
	line := func(name, value string) { fmt.Fprintf(b, "- %s: %s\n", name, value) }
	line("commit", output(ctx, "git", "describe", "--tags", "--always", "--dirty"))
	line("date", time.Now().UTC().Format("2006-01-02 15:04 UTC"))
	line("machine", fmt.Sprintf("%s, %d cores, %s, kernel %s", field("/proc/cpuinfo", "model name"), cores(), field("/proc/meminfo", "MemTotal"), output(ctx, "uname", "-r")))
	line("versions", strings.Join([]string{
		runtime.Version(), output(ctx, "redis-server", "--version"), output(ctx, "pg_recvlogical", "--version"),
	}, "; "))
	line("load generator", pick(h.wrk != "", "wrk", "bench/load")+"; bench/load where a rate is held, "+pick(h.realtime, "at real-time priority", "at no priority (chrt is missing or not permitted)"))
	line("pinning", pick(h.pinned, "server on core 0, load on core 1", "none: no taskset, or one core"))
	line("rounds", fmt.Sprintf("%d of %v%s", h.rounds(), h.span(), pick(h.quick, " (--quick)", "")))
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		average := strings.Fields(string(text))
		line("load average at the start", strings.Join(average[:min(3, len(average))], " ")+" (whatever is not near 0 was somebody else's work)")
	}
	return b.String()
}

func output(ctx context.Context, name string, args ...string) string {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "no " + name
	}
	return strings.TrimSpace(string(text))
}

// field is the value of the first line "name : value" of a file.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
