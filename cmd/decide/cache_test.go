package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

const (
	teamID = 1
	token  = "phc_of_the_clients"
	secret = "phs_of_the_clients"
)

// cache stands in for the replicator: it writes one team in the cache's layout, whole, in one transaction each time.
type cache struct {
	client redis.UniversalClient
	keys   flagcache.Keys

	epoch, seq int64
	lsn        uint64
	flags      map[string]string // key → record

	silence func() // stops the heartbeat
}

// newCache leads the cache of an empty Redis and keeps its heart beating until the test ends.
func newCache(t testing.TB, space *testenv.KeySpace) *cache {
	t.Helper()
	c := &cache{client: space.Client(t), keys: flagcache.NewKeys(space.Prefix), epoch: 1790000000000, lsn: 0x1000, flags: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	var beating sync.WaitGroup
	beating.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			if now, err := c.client.Time(ctx).Result(); err == nil { // an error is the end of the test, or shows in it
				c.client.HSet(ctx, c.keys.Meta, flagcache.MetaHeartbeat, now.UnixMilli())
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	c.silence = func() { cancel(); beating.Wait() }
	t.Cleanup(c.silence)
	return c
}

// define sets flags by their key; the empty definition removes one. A definition is the JSON of the columns that matter: filters, active.
func (c *cache) define(t testing.TB, flags map[string]string) (version string) {
	t.Helper()
	maps.Copy(c.flags, flags)
	maps.DeleteFunc(c.flags, func(_, definition string) bool { return definition == "" })
	return c.commit(t, c.team())
}

// team is the team's hash.
func (c *cache) team() map[string]string {
	digest := sha256.Sum256([]byte(secret))
	hash := map[string]string{
		"team": fmt.Sprintf(`{"id":%d,"project_id":%d,"api_token":%q,"name":"Clients","timezone":"UTC","secret_api_token":%q}`,
			teamID, teamID, token, hex.EncodeToString(digest[:])),
		"grouptype:1": `{"id":1,"group_type":"organization","group_type_index":0}`,
	}
	for key, definition := range c.flags {
		record := map[string]any{"id": idOf(key), "key": key, "name": "", "active": true, "version": 1, "ensure_experience_continuity": false}
		if err := json.Unmarshal([]byte(definition), &record); err != nil {
			panic(fmt.Sprintf("the definition of %s: %v", key, err)) // it is part of the test's source
		}
		text, _ := json.Marshal(record) // what was just read as JSON
		hash[flagcache.Field(flagcache.EntityFlag, strconv.Itoa(idOf(key)))] = string(text)
	}
	return hash
}

// idOf gives a flag the same id whenever it is defined.
func idOf(key string) int {
	sum := sha256.Sum256([]byte(key))
	return 1 + int(sum[0])<<8 + int(sum[1])
}

// removeTeam deletes the team: its token is certainly unknown from then on.
func (c *cache) removeTeam(t testing.TB) {
	t.Helper()
	c.commit(t, nil)
}

// commit writes the team, or removes it if the hash is nil.
func (c *cache) commit(t testing.TB, hash map[string]string) (version string) {
	t.Helper()
	c.lsn, c.seq = c.lsn+16, c.seq+1
	version = flagcache.Version(c.epoch, c.lsn)
	id := strconv.Itoa(teamID)
	_, err := c.client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		ctx := t.Context()
		pipe.Del(ctx, c.keys.Team(teamID))
		if hash == nil {
			pipe.HDel(ctx, c.keys.Teams, id)
			pipe.HDel(ctx, c.keys.Tokens, token)
		} else {
			pipe.HSet(ctx, c.keys.Team(teamID), hash)
			pipe.HSet(ctx, c.keys.Team(teamID), flagcache.VersionField, version)
			pipe.HSet(ctx, c.keys.Teams, id, version)
			pipe.HSet(ctx, c.keys.Tokens, token, id)
		}
		pipe.XAdd(ctx, &redis.XAddArgs{
			Stream: c.keys.Changes, ID: fmt.Sprintf("%d-%d", c.epoch, c.seq),
			Values: []any{"team", teamID, "version", version, "at", time.Now().UnixMicro()},
		})
		pipe.HSet(ctx, c.keys.Meta, flagcache.MetaSchema, flagcache.SchemaVersion, flagcache.MetaOwner, "test", flagcache.MetaEpoch, c.epoch,
			flagcache.MetaSeq, c.seq, flagcache.MetaCheckpoint, fmt.Sprintf("0/%X", c.lsn), flagcache.MetaComplete, "1")
		return nil
	})
	if err != nil {
		t.Fatalf("writing the cache: %v", err)
	}
	return version
}
