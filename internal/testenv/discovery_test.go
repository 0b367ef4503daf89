package testenv_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// TestMissingServers runs a test that needs servers in a process that finds none.
func TestMissingServers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  string
		want string
		ok   bool
	}{
		"skips and says what is missing":    {"TEST_SERVERS=env", "no Postgres here (looked at: TEST_POSTGRES_URL, which is empty)", true},
		"fails if servers are required":     {"TEST_SERVERS=env TEST_REQUIRE_SERVERS=1", "no Postgres here", false},
		"no version of that name":           {"TEST_SERVERS=local TEST_POSTGRES_VERSION=9", "no Postgres 9 here", true},
		"fails on a setting it cannot read": {"TEST_SERVERS=cloud", `TEST_SERVERS="cloud": want env, docker or local`, false},
		"fails on a server that is not there": {
			"TEST_POSTGRES_URL=postgres://nobody@127.0.0.1:1/postgres", "using TEST_POSTGRES_URL", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNeedsPostgres$", "-test.v")
			cmd.Env = append(strings.Fields(c.env), "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir(), "TESTENV_NEED=1")
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok || !strings.Contains(string(out), c.want) {
				t.Errorf("%v; want %q in\n%s", err, c.want, out)
			}
		})
	}
}

// TestNeedsPostgres is the process that TestMissingServers looks at.
func TestNeedsPostgres(t *testing.T) {
	if os.Getenv("TESTENV_NEED") == "" {
		t.Skip("only as a child of TestMissingServers")
	}
	testenv.Postgres(t)
}

// A server that somebody else has set up is used as it is, and left as it was.
func TestGivenServers(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t, testenv.PGOptions{})
	rd := testenv.RedisServer(t, testenv.RedisOptions{})
	client := rd.Client(t)
	want(t, "setting", client.Set(t.Context(), "theirs", 1, 0).Err())

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^(TestRedisIsolatesTests|TestRedisLeavesNothing|TestPostgresIsolatesTests|TestSchemas)$")
	cmd.Env = []string{"TEST_POSTGRES_URL=" + pg.URL("postgres"), "TEST_REDIS_URL=" + rd.URL, "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantEqual(t, "keys left", client.DBSize(t.Context()).Val(), 1)
	theirs := testenv.DB{URL: pg.URL("postgres"), Name: "postgres"}
	wantEqual(t, "databases left", testenv.Value[int](t, &theirs, "SELECT count(*) FROM pg_database"), 3)
}
