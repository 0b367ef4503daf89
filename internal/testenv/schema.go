package testenv

import (
	"testing"

	posthogsql "github.com/everflag/everflag/deploy/sql"
)

// SchemaVersion names a version of PostHog's tables.
type SchemaVersion string

// The versions that tests run on: today's tables, and those of December 2023, which lack projects, secret tokens and most of what configures the SDKs.
const (
	Schema2026 SchemaVersion = "2026"
	Schema2023 SchemaVersion = "2023"
)

// Keys of the demo team in the seeds.
const (
	DemoToken  = posthogsql.DemoToken
	DemoSecret = posthogsql.DemoSecret
)

// LoadSchema creates PostHog's tables in an empty database.
func LoadSchema(t testing.TB, db *DB, version SchemaVersion) {
	t.Helper()
	db.Exec(t, Schema("posthog_"+string(version)+".sql"))
}

// LoadSeed fills the tables of the same version with a few teams and flags of every kind.
func LoadSeed(t testing.TB, db *DB, version SchemaVersion) {
	t.Helper()
	db.Exec(t, Schema("seed_"+string(version)+".sql"))
}

// Schema returns one of the files in deploy/sql.
func Schema(file string) string {
	text, err := posthogsql.Files.ReadFile(file)
	if err != nil {
		panic("testenv: " + err.Error()) // a name that no version has: the caller is wrong, whatever the test
	}
	return string(text)
}
