package replication

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Config says what to replicate and within which bounds. The zero value of a field means zero: start from Defaults.
type Config struct {
	PostgresURL     string // any form that libpq knows; several hosts and target_session_attrs are understood
	Schema          string // of the tables. Defaults to "public"
	Slot            string // logical replication slot. Defaults to "everflag"
	Publication     string // Defaults to "everflag"
	ApplicationName string // by which a standby recognizes the leader's connection. Defaults to "everflag"

	ReadURL func() (string, error) // PostgresURL as it is now, asked for every connection. Defaults to none: it does not change

	NoSetup           bool // the publication is somebody else's to create and alter. Defaults to false
	AllowSourceChange bool // fill a cache that mirrors another Postgres cluster. Defaults to false
	CacheSchema       int  // schema version of the cache that the sink writes; 0 = not compared. Defaults to 0

	MaxTxBytes     int           // wire size of a transaction that is applied row by row; a larger one ends in a reconcile. Defaults to 8 MiB
	MaxRetainedWAL int64         // bytes of log that may be retained while the cache is away; 0 = any. Defaults to 1 GiB
	QueueBytes     int           // memory for transactions that wait for the cache, about. Defaults to 32 MiB
	BatchBytes     int           // wire size of one batch; a larger transaction is a batch of its own. Defaults to 1 MiB
	BatchTxs       int           // transactions of one batch. Defaults to 2000
	AckDelay       time.Duration // how long the source keeps log that the cache already holds. Defaults to 0

	CatalogEvery     time.Duration // between two looks at the definitions of the tables. Defaults to 5 s
	IdleEvery        time.Duration // between two checkpoints while nothing concerns us. Defaults to 3 s
	PeerTimeout      time.Duration // without a sign of life from the server. Defaults to 60 s
	ProvisionalAfter time.Duration // of waiting until an incomplete cache is filled from an ordinary snapshot. Defaults to 10 s
	VerifyEvery      time.Duration // between two verifies; 0 = never. Defaults to 1 h
	TakeoverAfter    time.Duration // without a sign of life from the leader while the cache answers; 0 = never. Defaults to 5 s
}

// Defaults returns the settings that hold unless somebody decides otherwise. PostgresURL is missing.
func Defaults() Config {
	return Config{
		Schema:           "public",
		Slot:             "everflag",
		Publication:      "everflag",
		ApplicationName:  "everflag",
		MaxTxBytes:       8 << 20,
		MaxRetainedWAL:   1 << 30,
		QueueBytes:       32 << 20,
		BatchBytes:       1 << 20,
		BatchTxs:         2000,
		CatalogEvery:     5 * time.Second,
		IdleEvery:        3 * time.Second,
		PeerTimeout:      time.Minute,
		ProvisionalAfter: 10 * time.Second,
		VerifyEvery:      time.Hour,
		TakeoverAfter:    5 * time.Second,
	}
}

// Validate names the first setting that cannot work.
func (c *Config) Validate() error {
	switch {
	case c.PostgresURL == "":
		return errors.New("--postgres-url: is not set; it is like postgres://everflag:password@localhost:5432/posthog")
	case c.Schema == "":
		return errors.New("--schema is empty")
	case c.Publication == "":
		return errors.New("--publication is empty")
	case c.ApplicationName == "":
		return errors.New("--application-name is empty")
	case !validSlot(c.Slot):
		return fmt.Errorf("--slot %q: a slot name is 1 to 40 lower-case letters, digits and underscores", c.Slot)
	case c.MaxTxBytes <= 0 || c.QueueBytes <= 0 || c.BatchBytes <= 0 || c.BatchTxs <= 0:
		return errors.New("--max-tx-bytes and the limits of queue and batch must be positive")
	case c.MaxRetainedWAL < 0:
		return errors.New("--max-retained-wal is negative")
	case c.CatalogEvery <= 0 || c.IdleEvery <= 0 || c.PeerTimeout <= 0 || c.ProvisionalAfter <= 0:
		return errors.New("--catalog-every, --provisional-after and the other intervals must be positive")
	case c.AckDelay < 0 || c.VerifyEvery < 0 || c.TakeoverAfter < 0:
		return errors.New("--ack-delay, --verify-every and --takeover-after must not be negative")
	}
	return nil
}

// validSlot leaves room for the suffix of temporary slots.
func validSlot(name string) bool {
	return name != "" && len(name) <= 40 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
