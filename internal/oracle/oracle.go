// Package oracle guarantees an independent judgement of "the cache equals the tables": it asks Postgres with plain SELECTs, reads Redis with plain
// commands, and shares no encoder, binding or key function with the programs it judges. It is for tests.
package oracle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// source is what must be in the cache of one table.
type source struct {
	table, entity string
	key           string
	team          string // SQL expression for the team of the row r
	hidden        string // boolean column that makes a row absent, if the table has it; empty = none
	must          string // columns that may not be missing from a record, if the table has them
	hashed        string // columns of which only the SHA-256 may be stored
}

const teamOfFlag = "(SELECT f.team_id FROM %[1]s.posthog_featureflag f WHERE f.id = r.feature_flag_id)"

var sources = []source{
	{
		"posthog_team", "team", "id", "r.id", "",
		"id uuid project_id api_token name timezone session_recording_opt_in session_recording_sample_rate session_recording_linked_flag recording_domains " +
			"surveys_opt_in autocapture_opt_out heatmaps_opt_in capture_performance_opt_in cookieless_server_hash_mode extra_settings",
		"secret_api_token secret_api_token_backup",
	},
	{
		"posthog_featureflag", "flag", "id", "r.team_id", "deleted",
		"id key name filters rollout_percentage team_id active version ensure_experience_continuity has_encrypted_payloads evaluation_runtime " +
			"bucketing_identifier archived", "",
	},
	{"posthog_cohort", "cohort", "id", "r.team_id", "", "id name filters is_static deleted groups", ""},
	{"posthog_grouptypemapping", "grouptype", "id", "r.team_id", "", "id group_type group_type_index", ""},
	{"feature_flags_teamfeatureflagsconfig", "config", "team_id", "r.team_id", "", "property_matching_version minimal_flag_called_events", ""},
	{"posthog_evaluationcontext", "context", "id", "r.team_id", "", "id name", ""},
	{"posthog_featureflagevaluationcontext", "flagcontext", "id", teamOfFlag, "", "id feature_flag_id evaluation_context_id", ""},
	{"posthog_tag", "context", "id", "r.team_id", "", "id name", ""},
	{"posthog_featureflagevaluationtag", "flagcontext", "id", teamOfFlag, "", "id feature_flag_id tag_id", ""},
	{"posthog_experiment", "experiment", "id", teamOfFlag, "deleted", "id feature_flag_id", ""},
}

// State is the content of the cache as far as it mirrors the source: team → field → record, and token → team.
type State struct {
	Teams  map[string]map[string]Record
	Tokens map[string]string
}

// Record is one row by column: the raw JSON that the cache must hold.
type Record map[string]string

// Options say where to look.
type Options struct {
	Schema string // of the tables; "public" if empty
	Prefix string // of the cache's keys; "everflag" if empty
}

func (o Options) schema() string {
	if o.Schema == "" {
		return "public"
	}
	return o.Schema
}

func (o Options) key(name string) string {
	if o.Prefix == "" {
		return "{everflag}:" + name
	}
	return "{" + o.Prefix + "}:" + name
}

// Differences compares the tables as they are now with the cache as it is now. It returns one line per difference; an error means that it could not look.
func Differences(ctx context.Context, db *pgx.Conn, cache redis.Cmdable, o Options) ([]string, error) {
	want, must, err := Expected(ctx, db, o)
	if err != nil {
		return nil, err
	}
	got, err := Cached(ctx, cache, o)
	if err != nil {
		return nil, err
	}
	return append(Compare(want, got, must), versionDifferences(ctx, cache, o)...), nil
}

// Expected reads what the cache must hold. must names, per entity, the columns that no record may lack.
func Expected(ctx context.Context, db *pgx.Conn, o Options) (state State, must map[string][]string, err error) {
	state = State{Teams: map[string]map[string]Record{}, Tokens: map[string]string{}}
	must = map[string][]string{}
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return state, must, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // it only read
	for _, s := range sources {
		columns, err := columnsOf(ctx, tx, o.schema(), s.table)
		if err != nil {
			return state, must, err
		}
		if len(columns) == 0 {
			continue
		}
		for _, name := range strings.Fields(s.must) {
			if _, has := columns[name]; has {
				must[s.entity] = append(must[s.entity], name)
			}
		}
		if err := state.read(ctx, tx, o.schema(), s, columns); err != nil {
			return state, must, fmt.Errorf("reading %s: %w", s.table, err)
		}
	}
	return state, must, nil
}

// columnsOf returns the type of every ordinary column by name; generated ones do not travel in the log.
func columnsOf(ctx context.Context, tx pgx.Tx, schema, table string) (map[string]string, error) {
	rows, err := tx.Query(ctx, `SELECT a.attname::text, t.typname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
		WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''`, schema, table)
	if err != nil {
		return nil, err
	}
	columns := map[string]string{}
	var name, typ string
	_, err = pgx.ForEachRow(rows, []any{&name, &typ}, func() error {
		columns[name] = typ
		return nil
	})
	return columns, err
}

func (s *State) read(ctx context.Context, tx pgx.Tx, schema string, src source, columns map[string]string) error {
	names := slices.Sorted(maps.Keys(columns))
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = "r." + pgx.Identifier{name}.Sanitize() + "::text"
	}
	team := src.team
	if strings.Contains(team, "%[1]s") {
		team = fmt.Sprintf(team, pgx.Identifier{schema}.Sanitize())
	}
	query := fmt.Sprintf("SELECT (%s)::text, %s FROM %s r", team, strings.Join(list, ", "), pgx.Identifier{schema, src.table}.Sanitize())
	if _, has := columns[src.hidden]; has {
		query += " WHERE " + pgx.Identifier{src.hidden}.Sanitize() + " IS NOT TRUE"
	}
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values := make([]*string, 1+len(names))
		targets := make([]any, len(values))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if values[0] == nil {
			continue // a row whose flag does not exist belongs to no team
		}
		s.add(*values[0], src, names, columns, values[1:])
	}
	return rows.Err()
}

func (s *State) add(team string, src source, names []string, types map[string]string, values []*string) {
	record := Record{}
	field := src.entity
	for i, name := range names {
		text := "null"
		if values[i] != nil {
			text = asJSON(types[name], *values[i])
			if slices.Contains(strings.Fields(src.hashed), name) {
				sum := sha256.Sum256([]byte(*values[i]))
				text = quote(hex.EncodeToString(sum[:]))
			}
			if name == src.key && src.entity != "team" && src.entity != "config" {
				field = src.entity + ":" + *values[i]
			}
			if src.entity == "team" && name == "api_token" {
				s.Tokens[*values[i]] = team
			}
		}
		record[name] = text
	}
	if s.Teams[team] == nil {
		s.Teams[team] = map[string]Record{}
	}
	s.Teams[team][field] = record
}

func asJSON(typ, text string) string {
	switch typ {
	case "bool":
		return text // the cast to text already says true or false
	case "int2", "int4", "int8", "json", "jsonb":
		return text
	case "numeric":
		if strings.Trim(text, "0123456789.-") == "" {
			return text
		}
	}
	return quote(text)
}

func quote(text string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}

// Cached reads what the cache holds.
func Cached(ctx context.Context, cache redis.Cmdable, o Options) (State, error) {
	state := State{Teams: map[string]map[string]Record{}}
	var err error
	if state.Tokens, err = cache.HGetAll(ctx, o.key("tokens")).Result(); err != nil {
		return state, err
	}
	keys, err := teamKeys(ctx, cache, o)
	if err != nil {
		return state, err
	}
	for _, key := range keys {
		team, err := Team(ctx, cache, key)
		if err != nil {
			return state, err
		}
		state.Teams[strings.TrimPrefix(key, o.key("team:"))] = team
	}
	return state, nil
}

func teamKeys(ctx context.Context, cache redis.Cmdable, o Options) ([]string, error) {
	var keys []string
	for cursor := uint64(0); ; {
		page, next, err := cache.Scan(ctx, cursor, o.key("team:")+"*", 1000).Result()
		if err != nil {
			return nil, err
		}
		keys = append(keys, page...)
		if cursor = next; cursor == 0 {
			slices.Sort(keys)
			return slices.Compact(keys), nil // SCAN may name a key twice
		}
	}
}

// Team reads one team's hash.
func Team(ctx context.Context, cache redis.Cmdable, key string) (map[string]Record, error) {
	fields, err := cache.HGetAll(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	return ParseTeam(key, fields)
}

// ParseTeam understands the hash of a team.
func ParseTeam(key string, fields map[string]string) (map[string]Record, error) {
	team := map[string]Record{}
	for field, text := range fields {
		if field == "@v" {
			continue
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &members); err != nil {
			return nil, fmt.Errorf("%s, field %q is no JSON object: %w", key, field, err)
		}
		record := Record{}
		for name, raw := range members {
			record[name] = normal(raw)
		}
		team[field] = record
	}
	return team, nil
}

// normal undoes the one freedom that a JSON string has, how it is escaped.
func normal(raw json.RawMessage) string {
	var text string
	if raw[0] == '"' && json.Unmarshal(raw, &text) == nil {
		return quote(text)
	}
	return string(raw)
}

// Compare returns one line per difference.
func Compare(want, got State, must map[string][]string) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, team := range union(want.Teams, got.Teams) {
		for _, field := range union(want.Teams[team], got.Teams[team]) {
			w, wanted := want.Teams[team][field]
			g, present := got.Teams[team][field]
			switch {
			case !present:
				add("team %s: %s is missing in the cache", team, field)
				continue
			case !wanted:
				add("team %s: %s is in the cache but not in the tables", team, field)
				continue
			}
			for name, value := range g {
				if w[name] != value {
					add("team %s: %s.%s is %.200s in the cache, %.200s in the tables", team, field, name, value, w[name])
				}
			}
			entity, _, _ := strings.Cut(field, ":")
			for _, name := range must[entity] {
				if _, has := g[name]; !has {
					add("team %s: %s lacks %s", team, field, name)
				}
			}
		}
	}
	for _, token := range union(want.Tokens, got.Tokens) {
		if want.Tokens[token] != got.Tokens[token] {
			add("token %s belongs to team %q in the cache, %q in the tables", token, got.Tokens[token], want.Tokens[token])
		}
	}
	return lines
}

func union[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// versionDifferences holds the hash of versions against the teams' own.
func versionDifferences(ctx context.Context, cache redis.Cmdable, o Options) []string {
	versions, err := cache.HGetAll(ctx, o.key("teams")).Result()
	if err != nil {
		return []string{err.Error()}
	}
	keys, err := teamKeys(ctx, cache, o)
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for _, key := range keys {
		team := strings.TrimPrefix(key, o.key("team:"))
		version, err := cache.HGet(ctx, key, "@v").Result()
		if err != nil || version != versions[team] {
			lines = append(lines, fmt.Sprintf("team %s has version %q, the hash of versions says %q (%v)", team, version, versions[team], err))
		}
		delete(versions, team)
	}
	for team := range versions {
		lines = append(lines, fmt.Sprintf("the hash of versions names team %s, which has no key", strconv.Quote(team)))
	}
	return lines
}
