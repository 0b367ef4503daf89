package testenv_test

import (
	"testing"

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
