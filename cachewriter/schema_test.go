package cachewriter

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// TestCacheSchemaDocument keeps the examples of docs/cache-schema.md true: they are what the writer leaves in Redis.
func TestCacheSchemaDocument(t *testing.T) { // S7
	b := setup(t)
	b.m.begin().
		put(team, "17", modelRow{
			"uuid": "0190a0b0-5a21-0000-a1c4-3d8f7b2e6c01", "api_token": "phc_8Jq2", "name": "Acme \"web\"", "secret_api_token": "phs_secret",
			"session_recording_opt_in": true, "session_recording_sample_rate": json.RawMessage("0.50"), "recording_domains": "{https://acme.example}", "surveys_opt_in": nil,
		}).
		put(config, "17", modelRow{"property_matching_version": 2}).
		put(flag, "3", modelRow{"team_id": 17, "key": "beta", "active": true, "deleted": false, "filters": json.RawMessage(`{"groups": [{"rollout_percentage": 50}]}`)}).
		put(cohort, "5", modelRow{"team_id": 17, "is_static": false, "filters": json.RawMessage(`{"properties": {"type": "OR", "values": []}}`)}).
		put(context_, "0190a0b0-5a21-0000-a1c4-3d8f7b2e6c02", modelRow{"team_id": 17, "name": "web"}).
		put(flagContext, "0190a0b0-5a21-0000-a1c4-3d8f7b2e6c03", modelRow{"feature_flag_id": 3, "evaluation_context_id": "0190a0b0-5a21-0000-a1c4-3d8f7b2e6c02"}).
		put(experiment, "9", modelRow{"feature_flag_id": 3, "deleted": false}).commit()
	b.fill()
	b.apply(b.m.begin().put(flag, "3", modelRow{"active": false}).commit())
	testenv.Eventually(t, 10*time.Second, func() error { // in another millisecond than the epoch, or the two could not be told apart
		if err := b.Beat(t.Context(), true); err != nil || b.meta(flagcache.MetaHeartbeat) == fmt.Sprint(b.epoch) {
			return cmp.Or(err, errors.New("the clock stands still"))
		}
		return nil
	})

	const path = "../docs/cache-schema.md"
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	examples, text := b.examples(), string(document)
	block := regexp.MustCompile("(?s)<!-- example: (\\w+) -->\n```\n(.*?)```\n")
	text = block.ReplaceAllStringFunc(text, func(old string) string {
		name := block.FindStringSubmatch(old)[1]
		example, has := examples[name]
		if !has {
			t.Errorf("%s shows %q, which has no example", path, name)
		}
		delete(examples, name)
		return "<!-- example: " + name + " -->\n```\n" + example + "```\n"
	})
	for name := range examples {
		t.Errorf("%s does not show %q", path, name)
	}
	golden(t, path, text)
	for _, field := range slices.Sorted(maps.Keys(b.redis.HGetAll(t.Context(), b.keys.Meta).Val())) {
		if !strings.Contains(text, "`"+field+"`") {
			t.Errorf("%s does not explain the meta field %q", path, field)
		}
	}
	for _, field := range []string{flagcache.MetaReconcile, flagcache.MetaReconciling} {
		if !strings.Contains(text, "| `"+field+"` |") {
			t.Errorf("%s does not explain the meta field %q", path, field)
		}
	}
}

// examples prints the keys, with the parts that differ from run to run replaced.
func (b *bundle) examples() map[string]string {
	fixed := strings.NewReplacer(
		fmt.Sprintf("%016d", b.epoch), "0001790000000123", fmt.Sprint(b.epoch), "1790000000123", b.owner, "db1/OWZ5KQ3N7B2XJ4TDL6CMVRHA2E",
		b.meta(flagcache.MetaHeartbeat), "1790000360123",
	)
	ctx, examples := b.t.Context(), map[string]string{}
	for name, key := range map[string]string{"team": b.keys.Team(17), "teams": b.keys.Teams, "tokens": b.keys.Tokens, "meta": b.keys.Meta} {
		fields := b.redis.HGetAll(ctx, key).Val()
		var text strings.Builder
		fmt.Fprintf(&text, "HGETALL %s\n", strings.Replace(key, b.prefix, flagcache.DefaultPrefix, 1))
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			fmt.Fprintf(&text, "  %-18s %s\n", field, fields[field])
		}
		examples[name] = fixed.Replace(text.String())
	}
	var text strings.Builder
	fmt.Fprintf(&text, "XRANGE %s - +\n", strings.Replace(b.keys.Changes, b.prefix, flagcache.DefaultPrefix, 1))
	for _, message := range b.redis.XRange(ctx, b.keys.Changes, "-", "+").Val() {
		fmt.Fprintf(&text, "  %s ", message.ID)
		for _, name := range []string{"team", "version", "at", "mark"} {
			if value, has := message.Values[name]; has {
				fmt.Fprintf(&text, " %s=%s", name, value)
			}
		}
		text.WriteByte('\n')
	}
	examples["changes"] = fixed.Replace(text.String())
	return examples
}

// Goldens of the commands: what one batch sends to Redis.
func TestCommands(t *testing.T) {
	m := newModel()
	b := &bundle{m: m}
	b.twoTeams()
	x, _ := modelIndex(t, m)
	w := New(Config{})
	w.index = x
	txs := []*change.Tx{
		m.begin().put(flag, "11", modelRow{"active": true}).put(team, "1", modelRow{"api_token": "phc_new"}).commit(), m.begin().remove(cohort, "5").commit(),
	}
	p, err := newPlan(x, txs, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, args := w.operations([]any{"owner"}, p.sorted(), p.tokens)
	for i := range args {
		if record, ok := args[i].(*field); ok {
			args[i] = record.record
		}
	}
	golden(t, "testdata/commands.txt", fmt.Sprintf("keys %q\narguments %q\n", keys, args))
}
