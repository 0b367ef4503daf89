package cachewriter

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// Finding is something about Redis that would fail or hurt, found before it does.
type Finding struct {
	Fatal  bool // the replicator must not start like this; otherwise it is advice
	What   string
	Remedy string
}

// Check looks for what would fail or hurt later. The source is that of the caller, the zero Source if it has none. An error means that Redis could not be
// asked. It writes nothing but a key of its own, which it removes, and may be called by any goroutine.
func (w *Writer) Check(ctx context.Context, source change.Source) ([]Finding, error) {
	ctx, cancel := w.within(ctx)
	defer cancel()
	if err := w.config.Client.Ping(ctx).Err(); err != nil {
		return nil, w.classify(ctx, "checking Redis", err)
	}
	var all []Finding
	for _, check := range []func(context.Context) ([]Finding, error){
		w.checkRights,
		w.checkSettings,
		w.checkTypes,
		func(ctx context.Context) ([]Finding, error) { return w.checkOwner(ctx, source) },
	} {
		found, err := check(ctx)
		if err != nil {
			return nil, w.classify(ctx, "checking Redis", err)
		}
		all = append(all, found...)
		if len(found) > 0 && found[0].Fatal {
			break // what follows would only say the same in other words
		}
	}
	return all, nil
}

// probe does, on a key of our own, what the scripts do: each command, so that a missing right shows before the first change comes.
const probe = `
for _, command in ipairs({
  {'HSET', KEYS[1], 'f', 'v'}, {'HSETNX', KEYS[1], 'f', 'v'}, {'HGET', KEYS[1], 'f'}, {'HMGET', KEYS[1], 'f'}, {'HDEL', KEYS[1], 'f'}, {'HLEN', KEYS[1]},
  {'HEXISTS', KEYS[1], 'f'}, {'HSCAN', KEYS[1], '0'}, {'HKEYS', KEYS[1]}, {'HGETALL', KEYS[1]}, {'EXISTS', KEYS[1]}, {'TYPE', KEYS[1]},
  {'HSET', KEYS[1], 'f', 'v'}, {'EXPIRE', KEYS[1], 60}, {'RENAME', KEYS[1], KEYS[1]}, {'PERSIST', KEYS[1]}, {'DEL', KEYS[1]},
  {'XADD', KEYS[1], 'MAXLEN', '~', 10, '1-1', 'f', 'v'}, {'XINFO', 'STREAM', KEYS[1]}, {'DEL', KEYS[1]}, {'TIME'},
}) do
  redis.call(unpack(command))
end
return 'ok'`

// Try does what the scripts do, and waits for replicas like them.
func (w *Writer) Try(ctx context.Context) error {
	ctx, cancel := w.within(ctx)
	defer cancel()
	_, err := w.run(ctx, redis.NewScript(probe), []string{w.keys.Probe}, nil)
	return w.classify(ctx, "trying to write", err)
}

// checkRights finds a Redis that cannot be written: a replica, a full one, a user without rights.
func (w *Writer) checkRights(ctx context.Context) ([]Finding, error) {
	err := w.config.Client.Eval(ctx, probe, []string{w.keys.Probe}).Err()
	if err == nil {
		return nil, nil
	}
	switch class := classOf(err); {
	case strings.Contains(err.Error(), "READONLY"):
		return []Finding{{true, "Redis is a read-only replica", "point --redis-url at the primary, or use redis+sentinel:// or redis+cluster://, which find it"}}, nil
	case class == ClassRefused:
		return []Finding{{true, "the Redis user lacks rights: " + err.Error(), w.rights()}}, nil
	case class == ClassFull:
		return []Finding{{false, "Redis refuses writes: " + err.Error(), "raise maxmemory or mend persistence; the replicator waits for it"}}, nil
	}
	return nil, err
}

// rights is the rule of an ACL user that suffices.
func (w *Writer) rights() string {
	return fmt.Sprintf("ACL SETUSER <user> ~%s +@connection +@hash +@stream +@scripting +del +exists +expire +persist +rename +type +time +wait", w.keys.All)
}

// checkSettings looks at eviction and persistence. A server that does not show its settings is not asked twice.
func (w *Writer) checkSettings(ctx context.Context) (all []Finding, err error) {
	policy, known := w.setting(ctx, "maxmemory-policy")
	limit, _ := w.setting(ctx, "maxmemory")
	switch {
	case !known:
		all = append(all, Finding{false, "Redis does not show its settings", "see to it that maxmemory-policy is noeviction and that persistence is on"})
		return all, nil
	case strings.HasPrefix(policy, "allkeys-"): // F31
		all = append(all, Finding{true, "maxmemory-policy is " + policy + ": Redis would drop teams without a word", "set maxmemory-policy noeviction"})
	case strings.HasPrefix(policy, "volatile-") && limit != "0":
		all = append(all, Finding{false, "maxmemory-policy is " + policy, "no team expires, so none is evicted; noeviction would say so"})
	}
	save, _ := w.setting(ctx, "save")
	appendOnly, _ := w.setting(ctx, "appendonly")
	if save == "" && appendOnly != "yes" {
		all = append(all, Finding{false, "Redis keeps nothing on disk", "set appendonly yes, or save; without it a restart of Redis means a reconcile"})
	}
	return all, nil
}

func (w *Writer) setting(ctx context.Context, name string) (value string, known bool) {
	settings, err := w.config.Client.ConfigGet(ctx, name).Result()
	if err != nil {
		return "", false // managed services hide CONFIG; that is advice, not an error
	}
	value, known = settings[name]
	return value, known
}

// checkTypes finds keys of ours that are somebody else's.
func (w *Writer) checkTypes(ctx context.Context) (all []Finding, err error) {
	for _, key := range []struct{ name, want string }{
		{w.keys.Meta, "hash"}, {w.keys.Teams, "hash"}, {w.keys.Tokens, "hash"}, {w.keys.Changes, "stream"},
	} {
		is, err := w.config.Client.Type(ctx, key.name).Result()
		if err != nil {
			return nil, err
		}
		if is != key.want && is != "none" {
			all = append(all, Finding{true, fmt.Sprintf("the key %s is a %s, not a %s", key.name, is, key.want), "choose another --key-prefix, or remove the key"})
		}
	}
	return all, nil
}

// checkOwner finds another source under the same prefix: two replicators would take the cache from each other for ever.
func (w *Writer) checkOwner(ctx context.Context, source change.Source) ([]Finding, error) {
	if source == (change.Source{}) {
		return nil, nil
	}
	pipe := w.config.Client.Pipeline()
	meta, clock := pipe.HGetAll(ctx, w.keys.Meta), pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			return nil, nil // checkTypes has said so
		}
		return nil, err
	}
	m, err := flagcache.ParseMeta(meta.Val())
	if err != nil {
		return []Finding{{true, "the meta hash is not ours: " + err.Error(), "choose another --key-prefix, or remove the key " + w.keys.Meta}}, nil
	}
	same := m.SystemID == source.SystemID && m.DatabaseOID == source.DatabaseOID && m.Slot == source.Slot
	if m.SystemID == "" || same || m.HeartbeatAge(clock.Val()) > flagcache.HeartbeatWithin {
		return nil, nil
	}
	what := fmt.Sprintf("another replicator writes under the prefix %q now: slot %q of system %s, database %d", w.config.Prefix, m.Slot, m.SystemID, m.DatabaseOID)
	return []Finding{{true, what, "choose another --key-prefix for this source, or stop the other replicator"}}, nil
}
