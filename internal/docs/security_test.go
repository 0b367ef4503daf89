package docs_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/everflag/everflag/internal/testenv"
)

// TestSecretsAreDigests looks for the demo team's secret key in all that is in Redis.
func TestSecretsAreDigests(t *testing.T) {
	t.Parallel()
	src := newSource(t)
	client := src.redis.Client(t)
	keys, err := client.Keys(t.Context(), "{"+src.redis.Prefix+"}:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	var everything strings.Builder
	for _, key := range keys {
		if !strings.HasSuffix(key, ":changes") {
			fields, err := client.HGetAll(t.Context(), key).Result()
			if err != nil {
				t.Fatal(err)
			}
			for field, value := range fields {
				everything.WriteString(field + "=" + value + "\n")
			}
		}
	}
	digest := sha256.Sum256([]byte(testenv.DemoSecret))
	if text := everything.String(); strings.Contains(text, "phs_") || !strings.Contains(text, hex.EncodeToString(digest[:])) {
		t.Errorf("%d keys: want the digest of the secret key, and the key nowhere", len(keys))
	}
}

// TestReplicationSeesEverything shows what SECURITY.md warns of: a role that may not read a table sees its changes if it may replicate.
func TestReplicationSeesEverything(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	db.Exec(t, "CREATE TABLE private (secret text)")
	_, address := db.Role(t, "REPLICATION")
	role, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = role.Close(t.Context()) }() // nothing is left to be sent
	if _, err := role.Exec(t.Context(), "SELECT * FROM private"); err == nil {
		t.Fatal("the role may read the table")
	}
	if _, err := role.Exec(t.Context(), "SELECT pg_create_logical_replication_slot('curious', 'test_decoding', temporary => true)"); err != nil {
		if missing, ok := errors.AsType[*pgconn.PgError](err); ok && missing.Code == "58P01" {
			testenv.Missing(t, "no test_decoding on this server: it is one of Postgres' contrib modules")
		}
		t.Fatal(err)
	}
	db.Exec(t, "INSERT INTO private VALUES ('seen anyway')")
	var changes string
	err = role.QueryRow(t.Context(), "SELECT string_agg(data, ' ') FROM pg_logical_slot_get_changes('curious', NULL, NULL)").Scan(&changes)
	if err != nil || !strings.Contains(changes, "seen anyway") {
		t.Errorf("decoded %q, %v", changes, err)
	}
}
