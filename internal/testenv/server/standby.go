package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// BaseBackup copies the data directory of the running server to target, as pg_basebackup would: whole, consistent, and able to start. It needs a server
// of local binaries.
func (p *Postgres) BaseBackup(ctx context.Context, target string) error {
	if p.DataDir == "" {
		return &MissingError{What: "base backup of a container", Looked: "the server runs in Docker; TEST_SERVERS=local has it"}
	}
	return p.Do(ctx, func(conn *pgx.Conn) error {
		start, stop := "pg_backup_start('testenv', true)", "pg_backup_stop(false)"
		if strings.HasPrefix(p.Version, "14") {
			start, stop = "pg_start_backup('testenv', true, false)", "pg_stop_backup(false, false)"
		}
		if _, err := conn.Exec(ctx, "SELECT "+start); err != nil {
			return fmt.Errorf("starting the backup: %w", err)
		}
		if err := copyTree(p.DataDir, target, p.owner, notInBackup); err != nil {
			return fmt.Errorf("copying the data directory: %w", err)
		}
		var label string
		if err := conn.QueryRow(ctx, "SELECT labelfile FROM "+stop).Scan(&label); err != nil {
			return fmt.Errorf("ending the backup: %w", err)
		}
		// What was written during the copy is only in WAL that the copy may have missed.
		if err := copyTree(filepath.Join(p.DataDir, "pg_wal"), filepath.Join(target, "pg_wal"), p.owner, overwrite); err != nil {
			return fmt.Errorf("copying WAL: %w", err)
		}
		return p.writeFile(filepath.Join(target, "backup_label"), label)
	})
}

// notInBackup leaves out what belongs to the running server and not to its data, as pg_basebackup does; slots are among it.
func notInBackup(path string, entry fs.DirEntry) action {
	if strings.HasPrefix(entry.Name(), "postmaster.") {
		return skip
	}
	for _, dir := range []string{"/pg_replslot/", "/pg_dynshmem/", "/pg_notify/", "/pg_serial/", "/pg_snapshots/", "/pg_stat_tmp/", "/pg_subtrans/"} {
		if strings.HasPrefix(path, dir) {
			return skip
		}
	}
	return take
}

func overwrite(string, fs.DirEntry) action { return replace }

func (p *Postgres) writeFile(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return p.owner.take(path)
}

// Standby starts a physical replica that streams from this server through a physical slot of its own, and returns when it answers queries.
func (p *Postgres) Standby(ctx context.Context, conf map[string]string) (*Postgres, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the standby did not become ready in time"))
	defer cancel()
	if p.DataDir == "" {
		return nil, &MissingError{What: "standby of a container", Looked: "the server runs in Docker; TEST_SERVERS=local has it"}
	}
	major, _, _ := strings.Cut(p.Version, ".")
	standby, err := homeless(major)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		return nil, err
	}
	_, own, err := net.SplitHostPort(standby.Addr)
	if err != nil {
		return nil, err
	}
	slot := "standby_" + own
	err = p.Do(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", slot)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("creating the slot of the standby: %w", err)
	}
	if err := p.BaseBackup(ctx, standby.DataDir); err != nil {
		return nil, err
	}
	settings := map[string]string{
		"hot_standby": "on", "hot_standby_feedback": "on", "primary_slot_name": slot,
		"primary_conninfo": fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=postgres application_name=%s", host, port, User, Password, slot),
	}
	maps.Copy(settings, conf)
	if err := standby.writeConf(settings); err != nil {
		return nil, err
	}
	if err := standby.writeFile(filepath.Join(standby.DataDir, "standby.signal"), ""); err != nil {
		return nil, err
	}
	return standby, standby.Start(ctx)
}

// Promote turns a standby into a primary and returns when it accepts writes.
func (p *Postgres) Promote(ctx context.Context) error {
	return p.Do(ctx, func(conn *pgx.Conn) error {
		var done bool
		if err := conn.QueryRow(ctx, "SELECT pg_promote(true, "+strconv.Itoa(int(startTimeout.Seconds()))+")").Scan(&done); err != nil {
			return fmt.Errorf("promoting the standby: %w", err)
		}
		if !done {
			return errors.New("promoting the standby: it did not end recovery in time")
		}
		return nil
	})
}
