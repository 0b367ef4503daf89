package replication

import (
	"strings"
	"testing"
)

// A cache that a replicator of another source writes is left alone; once that one is silent it may be taken (F10, F21).
func TestOccupiedCacheIsRefused(t *testing.T) {
	t.Parallel()
	b := small(t)
	r := b.start()
	b.equal()
	r.stop()
	b.free()
	epoch := int64(0)
	b.sink.edit(func(c *fakeCache) { c.position.Source.Slot = "another" })
	b.sink.hook(func(op string) (bool, error) {
		if op == "observe" {
			b.sink.cache.writes++
		}
		if op == "acquire" {
			epoch++
		}
		return true, nil
	})
	if err := b.start().wait(); err == nil || !strings.Contains(err.Error(), `slot "another"`) || !strings.Contains(err.Error(), "--key-prefix") {
		t.Errorf("Run returned %v", err)
	}
	if epoch != 0 {
		t.Errorf("the lead was taken %d times", epoch)
	}
	b.sink.hook(nil)
	b.start()
	b.historyHas(`through slot "another"`)
	b.equal()
}
