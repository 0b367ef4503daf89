package faults

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv"
)

// F3: a value that is megabytes on the wire and next to nothing in the log. What is confirmed is a position of the log, never a sum of what was received: a
// slot that stands beyond the end of the log skips everything that is committed until the log gets there.
func TestCompressibleValues(t *testing.T) {
	t.Parallel()
	s, _, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	r := s.replicator()
	s.waitEqual()
	for range 3 {
		s.exec(`UPDATE posthog_featureflag SET filters = jsonb_build_object('groups', '[]'::jsonb, 'x', repeat('a', 4000000)) WHERE key = 'flag-0'`)
		s.waitEqual()
		s.waitConfirmed()
		if end, at := s.lsn("SELECT pg_current_wal_insert_lsn()::text"), s.lsn(confirmed); at > end {
			t.Errorf("the slot has confirmed %s, the log ends at %s", at, end)
		}
		r.stop()
		for range 10 {
			s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-1'")
		}
		r = s.replicator()
		s.waitEqual()
		if n := r.reconciles(); n != 0 {
			t.Errorf("%d reconciles after an orderly stop: the updates did not come through the stream", n)
		}
	}
}

// F11: of two transactions, the one that writes first commits last, so that its rows lie before those of the other one in the log. Both change the same team,
// and each is in the cache as soon as it is committed: positions of rows order nothing.
func TestInterleavedTransactions(t *testing.T) {
	t.Parallel()
	s, _, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	r := s.replicator()
	s.waitEqual()
	early, err := pgx.Connect(t.Context(), s.postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = early.Close(t.Context()) }() // its transactions are over
	for range 5 {
		tx, err := early.Begin(t.Context())
		if err == nil {
			_, err = tx.Exec(t.Context(), "UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-0'")
		}
		if err != nil {
			t.Fatal(err)
		}
		s.exec("UPDATE posthog_featureflag SET version = version + 1 WHERE key = 'flag-3'") // of the same team
		s.waitEqual()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.waitEqual()
	}
	s.changesOnce()
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles, want only the first:\n%s", r.reconciles(), strings.Join(r.said("reconcil"), "\n"))
	}
}
