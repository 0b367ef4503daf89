package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// reconcileSection measures the copy of a table into an empty Redis, beside its two halves done by the tools of Postgres and Redis.
func reconcileSection(ctx context.Context, h *harness) error {
	const teams, perTeam = 20_000, 10
	c, err := h.openChain(ctx, teams, perTeam)
	if err != nil {
		return err
	}
	data := filepath.Join(h.dir, "pipe")
	if err := c.dump(ctx, data); err != nil {
		return err
	}
	var copied, ordered, piped, floor, ours, cpu, unchanged, written series
	err = h.turns(func() error {
		took, err := c.copyOut(ctx, "posthog_team", "posthog_featureflag")
		if err != nil {
			return err
		}
		inOrder, err := c.copyOut(ctx, "(SELECT * FROM posthog_team ORDER BY id)", "(SELECT * FROM posthog_featureflag ORDER BY team_id)")
		if err != nil {
			return err
		}
		ordered = append(ordered, inOrder)
		pipe, err := c.pipe(ctx, data)
		copied, piped, floor = append(copied, took), append(piped, pipe), append(floor, took+pipe)
		return err
	}, func() error {
		before := c.replicator.used()
		took, err := c.refill(ctx)
		ours, cpu = append(ours, took), append(cpu, c.replicator.used().since(before).ran.Seconds())
		return err
	}, func() error {
		var report reconcileReport
		err := c.ask(ctx, http.MethodPost, "/rebuild", &report)
		unchanged, written = append(unchanged, report.Took.Seconds()), append(written, float64(report.TeamsWritten))
		return err
	})
	err = errors.Join(err, h.profile(c.replicator, "reconcile", func() error {
		for start := time.Now(); time.Since(start) < profileSpan; {
			if _, err := c.refill(ctx); err != nil {
				return err
			}
		}
		return nil
	}))
	if err != nil {
		return err
	}
	const flags = teams * perTeam
	h.report.table("200,000 flags", "seconds", "flags/s", "CPU s")
	h.report.row("COPY … TO STDOUT of both tables", copied, flags/copied.median(), "")
	h.report.row("the same in the order of teams, as a reconcile reads them", ordered, flags/ordered.median(), "")
	h.report.row("redis-cli --pipe of the same records", piped, flags/piped.median(), "")
	h.report.row("**the floor**: one after the other", floor, flags/floor.median(), "")
	h.report.row("replicator, empty Redis", ours, flags/ours.median(), cpu)
	h.report.row("replicator, unchanged cache", unchanged, flags/unchanged.median(), "")
	h.report.note("Teams written by a reconcile of an unchanged cache: %v of %s.", written, number(teams))
	h.report.note("The replicator's time is what it reports itself, from the marker to the checkpoint; it includes the wait for a consistent snapshot.")
	h.report.atLeast("reconcile into an empty Redis vs COPY + redis-cli --pipe", floor.ratio(ours), 0.7, "")
	h.report.atMost("teams written by a reconcile of an unchanged cache", written, 0, "")
	return nil
}

// refill empties Redis under the replicator and returns how long the reconcile took that this leads to.
func (c *chain) refill(ctx context.Context) (float64, error) {
	before, err := c.lastReconcile(ctx)
	if err != nil {
		return 0, err
	}
	if err := c.cache.FlushAll(ctx).Err(); err != nil {
		return 0, err
	}
	var report reconcileReport
	err = pollStatus(ctx, 2*time.Minute, "a reconcile after FLUSHALL", func() (bool, error) {
		report, err = c.lastReconcile(ctx)
		return report.Finished.After(before.Finished), err
	})
	return report.Took.Seconds(), err
}

// copyOut reads what the cache is made of.
func (c *chain) copyOut(ctx context.Context, tables ...string) (float64, error) {
	start := time.Now()
	for _, table := range tables {
		if _, err := c.db.PgConn().CopyTo(ctx, io.Discard, "COPY "+table+" TO STDOUT"); err != nil {
			return 0, fmt.Errorf("copying %s: %w", table, err)
		}
	}
	return time.Since(start).Seconds(), nil
}

// dump writes the cache's teams as commands, as redis-cli --pipe reads them.
func (c *chain) dump(ctx context.Context, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	command := func(words ...string) {
		fmt.Fprintf(w, "*%d\r\n", len(words))
		for _, word := range words {
			fmt.Fprintf(w, "$%d\r\n%s\r\n", len(word), word)
		}
	}
	for id := range c.teams {
		key := c.keys.Team(int64(id + 1))
		fields, err := c.cache.HGetAll(ctx, key).Result()
		if err != nil {
			return err
		}
		words := []string{"HSET", key}
		for name, value := range fields {
			words = append(words, name, value)
		}
		command(words...)
		command("HSET", c.keys.Teams, fmt.Sprint(id+1), fields["@v"])
		command("HSET", c.keys.Tokens, fmt.Sprintf("phc_%043d", id+1), fmt.Sprint(id+1))
	}
	return w.Flush()
}

// pipe writes the dump into another database of the same Redis, and removes it again.
func (c *chain) pipe(ctx context.Context, path string) (float64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	host, port, err := net.SplitHostPort(c.redis.Addr)
	if err != nil {
		return 0, err
	}
	command := exec.CommandContext(ctx, "redis-cli", "-h", host, "-p", port, "-n", "1", "--pipe")
	command.Stdin = file
	start := time.Now()
	if text, err := command.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("redis-cli --pipe: %w\n%s", err, text)
	}
	took := time.Since(start).Seconds()
	return took, c.cache.Do(ctx, "SWAPDB", "1", "2").Err()
}
