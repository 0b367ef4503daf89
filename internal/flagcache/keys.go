// Package flagcache is the cache schema: it guarantees that the writer and the readers agree on every key, field, record, version and meta member in
// Redis. No other Go code spells a key or a field name; the writer's scripts do, and replication, which must not know this package, names the entities.
// docs/cache-schema.md shows its test data.
package flagcache

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// SchemaVersion is the version of this layout. A reader refuses a newer one; a writer that finds an older one reconciles.
const SchemaVersion = 1

// DefaultPrefix is the key prefix unless a setting says otherwise.
const DefaultPrefix = "everflag"

// CheckPrefix says why a prefix cannot be one. A Cluster takes the text between the first brace and the next as the hash tag, and the whole key where there is nothing between
// them, so that the keys would not share a slot: see "Hash tags" in the Cluster specification of Redis. The others are wild cards in the rights of a user and in KEYS.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return errors.New("must not be empty")
	}
	if at := strings.IndexAny(prefix, "{}*?[]\\ \t\r\n"); at >= 0 {
		return fmt.Errorf("must not contain %q", prefix[at:at+1])
	}
	return nil
}

// Keys spells the keys under one prefix. They share one hash tag, so that a Cluster keeps them in one slot and one script can write them all.
type Keys struct {
	Teams   string // hash: team id → version
	Tokens  string // hash: api_token → team id
	Meta    string // hash: see Meta
	Changes string // stream: see Entry
	Probe   string // of no type: the writer's check tries on it what the scripts do, and removes it
	All     string // pattern of all keys, for the rights of a user

	teamPrefix   string
	stagedPrefix string
}

// NewKeys returns the keys under the prefix.
func NewKeys(prefix string) Keys {
	tag := "{" + prefix + "}:"
	return Keys{
		Teams:        tag + "teams",
		Tokens:       tag + "tokens",
		Meta:         tag + "meta",
		Changes:      tag + "changes",
		Probe:        tag + "probe",
		All:          tag + "*",
		teamPrefix:   tag + "team:",
		stagedPrefix: tag + "staged:",
	}
}

// Team is the key of one team's hash: VersionField and a record per row, see Field.
func (k Keys) Team(id int64) string {
	var room [64]byte // the number needs no string of its own
	return string(strconv.AppendInt(append(room[:0], k.teamPrefix...), id, 10))
}

// Staged is where a step of a writer prepares a team that the cache does not have, to be renamed to Team. Nobody reads it, and it expires.
func (k Keys) Staged(owner string, step int, id int64) string {
	return fmt.Sprint(k.stagedPrefix, owner, ":", step, ":", id)
}

// VersionField is the field of a team's hash that holds its version.
const VersionField = "@v"

// The entities. EntityTeam and EntityConfig have one row per team and are fields by themselves; a row of the others is the field
// "<entity>:<primary key>".
const (
	EntityTeam        = "team"
	EntityConfig      = "config"
	EntityFlag        = "flag"
	EntityCohort      = "cohort"
	EntityGroupType   = "grouptype"
	EntityContext     = "context"
	EntityFlagContext = "flagcontext"
	EntityExperiment  = "experiment"
)

// Field is the field of a team's hash that holds the record of the row.
func Field(entity, primaryKey string) string {
	if entity == EntityTeam || entity == EntityConfig {
		return entity
	}
	return entity + ":" + primaryKey
}

// AppendField appends Field.
func AppendField(dst []byte, entity, primaryKey string) []byte {
	dst = append(dst, entity...)
	if entity == EntityTeam || entity == EntityConfig {
		return dst
	}
	return append(append(dst, ':'), primaryKey...)
}

// ParseField is the inverse of Field; primaryKey is empty for the entities with one row per team. ok is false for VersionField and for fields that
// this schema does not know.
func ParseField(field string) (entity, primaryKey string, ok bool) {
	entity, primaryKey, keyed := strings.Cut(field, ":")
	switch entity {
	case EntityTeam, EntityConfig:
		return entity, "", !keyed
	case EntityFlag, EntityCohort, EntityGroupType, EntityContext, EntityFlagContext, EntityExperiment:
		return entity, primaryKey, keyed && primaryKey != ""
	}
	return "", "", false
}

// Version is the version of a team: epoch and LSN in fixed width, so that text order is their order. Readers compare for equality only.
func Version(epoch int64, lsn uint64) string {
	return fmt.Sprintf("%016d:%016X", epoch, lsn)
}

// ParseVersion is the inverse of Version.
func ParseVersion(version string) (epoch int64, lsn uint64, err error) {
	if len(version) != 33 || version[16] != ':' {
		return 0, 0, fmt.Errorf("version %q: want 16 decimal digits, a colon and 16 hexadecimal digits", version)
	}
	epoch, errEpoch := strconv.ParseInt(version[:16], 10, 64)
	lsn, errLSN := strconv.ParseUint(version[17:], 16, 64)
	if errEpoch != nil || errLSN != nil || epoch < 0 {
		return 0, 0, fmt.Errorf("version %q: want 16 decimal digits, a colon and 16 hexadecimal digits", version)
	}
	return epoch, lsn, nil
}
