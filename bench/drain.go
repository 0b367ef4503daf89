package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// drainSection measures how fast a backlog in the log becomes a cache, beside consumers that throw it away.
func drainSection(ctx context.Context, h *harness) error {
	c, err := h.openChain(ctx, 2000, 10)
	if err != nil {
		return err
	}
	h.report.table("backlog", "consumer", "seconds", "rows/s", "CPU µs/row", "ratio of rows/s")
	shapes := []struct {
		name      string
		txs, rows int
	}{{"20,000 transactions of a row", 20_000, 1}, {"200 transactions of 1,000 rows", 200, 1000}}
	for _, shape := range shapes {
		d := drain{chain: c, txs: shape.txs, rows: shape.rows}
		for range pick(h.quick, 2, h.rounds()) {
			if err := d.round(ctx); err != nil {
				return err
			}
		}
		rows := float64(shape.txs * shape.rows)
		for _, line := range []struct {
			name string
			took series
			cpu  series
		}{{"pg_recvlogical to /dev/null", d.recvlogical, nil}, {"raw receive loop in Go", d.receive, nil}, {"replicator", d.ours, d.cpu}} {
			h.report.row(shape.name, line.name, line.took, rows/line.took.median(), line.cpu, d.recvlogical.ratio(line.took))
		}
		h.report.atLeast("drain of "+shape.name+" vs pg_recvlogical", d.recvlogical.ratio(d.ours), 0.9, "")
	}
	h.report.note("Each consumer has a slot of its own over the same log. The replicator is timed from the start of its walsender's connection to the last change " +
		"in Redis, which includes taking the lead and loading the index of 20,000 flags; the others from the start of the process to its end.")
	return nil
}

// drain is one shape of backlog and what the consumers took.
type drain struct {
	*chain
	txs, rows                       int
	next                            int
	recvlogical, receive, ours, cpu series
}

func (d *drain) round(ctx context.Context) error {
	if err := d.replicator.stop(); err != nil {
		return err
	}
	for _, name := range []string{"floor_c", "floor_go"} {
		if _, err := d.db.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name); err != nil {
			return err
		}
	}
	last, mark, err := d.write(ctx)
	if err != nil {
		return err
	}
	until, err := d.position(ctx)
	if err != nil {
		return err
	}
	// Something after the position, so that a consumer that waits for it need not wait for a keepalive.
	if _, err := d.db.Exec(ctx, "SELECT pg_log_standby_snapshot()"); err != nil {
		if _, err := d.db.Exec(ctx, "SELECT pg_switch_wal()"); err != nil { // before PG 16
			return err
		}
	}
	consumers := []func() error{
		func() error { return d.drainC(ctx, until) }, func() error { return d.drainOurs(ctx, last, mark) }, func() error { return d.drainGo(ctx, until) },
	}
	first := len(d.ours)
	for i := range consumers { // in turns: who reads the log first finds it cold
		if err := consumers[(i+first)%len(consumers)](); err != nil {
			return err
		}
	}
	return poll(ctx, 10*time.Second, "the slots of the floors to be free", func() (bool, error) {
		_, err := d.db.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'floor%'")
		if busy, ok := errors.AsType[*pgconn.PgError](err); ok && busy.Code == objectInUse {
			return false, nil // a consumer ends before its walsender does
		}
		return true, err
	})
}

const objectInUse = "55006"

// write makes the backlog: every transaction updates the next rows. The last change carries a mark.
func (d *drain) write(ctx context.Context) (flag int, mark string, err error) {
	total := d.teams * d.perTeam
	d.changes++
	const loop = `DO $do$ BEGIN FOR i IN 0 .. %d LOOP
		UPDATE posthog_featureflag SET name = 'The change %d in transaction ' || i || ' with a description of ordinary length that says what the flag is good for',
		version = version + 1 WHERE id > (%d + i * %d) %% %d AND id <= (%d + i * %d) %% %d + %d; COMMIT; END LOOP; END $do$`
	_, err = d.db.Exec(ctx, fmt.Sprintf(loop, d.txs-1, d.changes, d.next, d.rows, total, d.next, d.rows, total, d.rows))
	if err != nil {
		return 0, "", fmt.Errorf("writing the backlog: %w", err)
	}
	d.next = (d.next + d.txs*d.rows) % total
	mark, err = d.touch(ctx, total)
	return total, mark, err
}

func (d *drain) drainC(ctx context.Context, until string) error {
	took, err := d.consume(ctx, "pg_recvlogical", "--dbname="+d.postgres.URL(database), "--slot=floor_c", "--start", "--file=/dev/null", "--endpos="+until,
		"--no-loop", "--option=proto_version=1", "--option=publication_names="+publication)
	d.recvlogical = append(d.recvlogical, took)
	return err
}

func (d *drain) drainGo(ctx context.Context, until string) error {
	address, err := url.Parse(d.postgres.URL(database))
	if err != nil {
		return err
	}
	query := address.Query()
	query.Set("replication", "database")
	address.RawQuery = query.Encode()
	took, err := d.consume(ctx, d.h.binary("receive"), "-url", address.String(), "-slot", "floor_go", "-publication", publication, "-until", until)
	d.receive = append(d.receive, took)
	return err
}

// consume runs a consumer to its end.
func (d *drain) consume(ctx context.Context, argv ...string) (float64, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, err
	}
	p, err := d.h.start(anyCPU, nil, append([]string{path}, argv[1:]...)...)
	if err != nil {
		return 0, err
	}
	err = p.await(ctx, 5*time.Minute)
	return time.Since(p.started).Seconds(), err
}

func (d *drain) drainOurs(ctx context.Context, last int, mark string) error {
	began := make(chan error, 1)
	go func() { began <- d.startReplicator(ctx) }()
	if err := d.arrived(ctx, last, mark, 5*time.Minute); err != nil {
		return err
	}
	end := time.Now()
	if err := <-began; err != nil {
		return err
	}
	var since time.Time
	if err := d.db.QueryRow(ctx, "SELECT backend_start FROM pg_stat_replication WHERE application_name = 'everflag'").Scan(&since); err != nil {
		return fmt.Errorf("reading when the replicator connected: %w", err)
	}
	d.ours = append(d.ours, end.Sub(since).Seconds())
	d.cpu = append(d.cpu, float64(d.replicator.used().ran.Microseconds())/float64(d.txs*d.rows))
	return nil
}
