package testenv_test

import (
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

func TestBoth(t *testing.T) {
	for range 3 {
		t.Run("x", func(t *testing.T) {
			pg := testenv.Postgres(t)
			rd := testenv.Redis(t)
			pg.Exec(t, "create table a(b int)")
			if err := rd.Client(t).Set(t.Context(), "a", 1, 0).Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestSchema(t *testing.T) {
	for _, v := range []testenv.SchemaVersion{testenv.Schema2026, testenv.Schema2023} {
		t.Run(string(v), func(t *testing.T) {
			pg := testenv.Postgres(t)
			start := time.Now()
			testenv.LoadSchema(t, pg, v)
			t.Log(time.Since(start))
			testenv.LoadSeed(t, pg, v)
			t.Log(time.Since(start))
		})
	}
}
