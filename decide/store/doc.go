// Package store keeps every team's flags in memory.
package store
