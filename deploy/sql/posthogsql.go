// Package posthogsql guarantees that tests, the demo and the compose file speak of the same PostHog: its tables as of 2026 and of December 2023, each with a
// seed. A schema loads into an empty database, its seed into that.
package posthogsql

import "embed"

// Files holds posthog_2023.sql, posthog_2026.sql, seed_2023.sql and seed_2026.sql.
//
//go:embed *.sql
var Files embed.FS

// Keys of the demo team in the seeds.
const (
	DemoToken  = "phc_demoEverflag2f6c9d1b8e4a7305" // team 1 of both
	DemoSecret = "phs_demoEverflag83b1f0c6a94e2d57" // 2026 only
)
