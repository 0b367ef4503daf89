package replication

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv"
)

// F21, F20: of two replicators one leads; the other takes over when the slot comes free.
func TestStandby(t *testing.T) {
	t.Parallel()
	b := small(t)
	first := b.start()
	b.equal()
	second := b.startWith(b.cfg, newFakeSink(t, b.sink.cache).sharing(b.sink))
	b.role(second, RoleStandby)
	if _, err := second.Rebuild(t.Context()); !errors.Is(err, ErrNotLeading) {
		t.Errorf("a standby answered %v", err)
	}
	b.eventually(func() error {
		if !second.Status().Ready {
			return errors.New("the standby is not ready")
		}
		return nil
	})
	first.stop()
	b.role(second, RoleLeader)
	b.exec("UPDATE posthog_featureflag SET name = 'by the second'")
	b.equal()
	if n := len(b.sink.history()); n > 3 {
		t.Errorf("taking over reconciled: %s", strings.Join(b.sink.history(), "; "))
	}
}

// F21: a leader that stands still loses its slot to the standby, and its writes are turned away when it wakes up.
func TestTakeoverFromFrozenLeader(t *testing.T) {
	t.Parallel()
	b := small(t)
	config, err := pgx.ParseConfig(b.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.Proxy(t, fmt.Sprintf("%s:%d", config.Host, config.Port))
	cfg := b.cfg
	cfg.PostgresURL, cfg.TakeoverAfter, cfg.PeerTimeout = proxy.URL(b.db.URL), time.Second, time.Hour
	frozen := newFakeSink(t, b.sink.cache).sharing(b.sink)
	b.startWith(cfg, frozen)
	b.equal()
	cfg.PostgresURL = b.db.URL
	second := b.startWith(cfg, b.sink)
	b.role(second, RoleStandby)
	thaw := make(chan struct{})
	wakeUp := sync.OnceFunc(func() { close(thaw) })
	t.Cleanup(wakeUp)
	frozen.freeze(thaw)
	proxy.Stall()
	b.role(second, RoleLeader)
	b.exec("UPDATE posthog_featureflag SET name = 'by the second'")
	b.equal()
	wakeUp()
	proxy.Restore()
	b.exec("UPDATE posthog_featureflag SET name = 'still by the second'")
	b.equal()
	if second.Status().Role != RoleLeader {
		t.Error("the one that woke up leads again")
	}
}
