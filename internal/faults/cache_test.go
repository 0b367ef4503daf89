package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// F31: Redis is full. Nothing is written or confirmed, the status says why, answers stay, and once there is room the stream goes on where it was.
func TestFullRedis(t *testing.T) {
	t.Parallel()
	s, _, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{Conf: map[string]string{"maxmemory-policy": "noeviction"}})
	r := s.replicator()
	s.waitEqual()
	s.waitConfirmed()
	d := s.decide()
	c := rd.Client(t)
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	fields := c.HLen(t.Context(), "{everflag}:team:1").Val()
	testenv.AddFlag(t, s.source, 1, "no-room", `{"groups":[{"rollout_percentage":100}]}`, nil)
	change := s.lsn("SELECT pg_current_wal_insert_lsn()::text")
	testenv.Eventually(t, settle, func() error {
		if st := r.status(); st.Ready || !strings.Contains(st.CacheError, "OOM") {
			return fmt.Errorf("ready %t, cache error %q", st.Ready, st.CacheError)
		}
		return nil
	})
	pass(t, time.Second)
	if at := s.lsn(confirmed); at >= change {
		t.Errorf("the slot has confirmed %s, though Redis has refused the change that ends before %s", at, change)
	}
	if now := c.HLen(t.Context(), "{everflag}:team:1").Val(); fields == 0 || now != fields {
		t.Errorf("the team has %d fields, it had %d", now, fields)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	s.waitEqual()
	d.noticedNothing(s)
	if r.reconciles() != 1 {
		t.Errorf("%d reconciles, want only the first", r.reconciles())
	}
}

// F38: somebody lets a key expire, deletes and edits others. Nothing is committed that could show it; the verify on its schedule finds and repairs it.
func TestTamperedCache(t *testing.T) {
	t.Parallel()
	s, _, rd := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
	r := s.replicator("REPLICATOR_VERIFY_EVERY=1s")
	s.waitEqual()
	c, flag := rd.Client(t), value[int](s, "SELECT id FROM posthog_featureflag WHERE key = 'flag-1'")
	for name, harm := range map[string]func() error{
		"a team expires":   func() error { return c.PExpire(t.Context(), "{everflag}:team:1", time.Millisecond).Err() },
		"a token is gone":  func() error { return c.HDel(t.Context(), "{everflag}:tokens", token).Err() },
		"a flag is edited": func() error { return c.HSet(t.Context(), "{everflag}:team:2", fmt.Sprint("flag:", flag), "{}").Err() },
		"a team is added":  func() error { return c.HSet(t.Context(), "{everflag}:teams", "4711", "x").Err() },
	} {
		before := r.reconciles()
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, settle, func() error {
			if r.reconciles() == before {
				return fmt.Errorf("%s: no reconcile", name)
			}
			return s.equal()
		})
	}
	if len(r.said(`"reconciled"`, "verify")) == 0 {
		t.Errorf("no reconcile names the verify:\n%s", strings.Join(r.said("reconcil"), "\n"))
	}
}
