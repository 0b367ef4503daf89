package testenv_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/everflag/everflag/internal/testenv"
)

// TestMissing runs a test that needs a server or a program in a process that finds none.
func TestMissing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  string
		want string
		ok   bool
	}{
		"skips and says what is missing":    {"TEST_SERVERS=env", "no Postgres here (looked at: TEST_POSTGRES_URL, which is empty)", true},
		"fails if servers are required":     {"TEST_SERVERS=env TEST_REQUIRE_SERVERS=1", "no Postgres here", false},
		"skips without a program":           {"TESTENV_NEED=no-such-program", "no no-such-program in PATH: Debian's package nowhere has it", true},
		"fails if programs are required":    {"TESTENV_NEED=no-such-program TEST_REQUIRE_SERVERS=1", "Debian's package nowhere has it", false},
		"no version of that name":           {"TEST_SERVERS=local TEST_POSTGRES_VERSION=9", "no Postgres 9 here", true},
		"fails on a setting it cannot read": {"TEST_SERVERS=cloud", `TEST_SERVERS="cloud": want env, docker or local`, false},
		"fails on a server that is not there": {
			"TEST_POSTGRES_URL=postgres://nobody@127.0.0.1:1/postgres", "using TEST_POSTGRES_URL", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNeeds$", "-test.v")
			cmd.Env = append([]string{"TESTENV_NEED=Postgres", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, strings.Fields(c.env)...)
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok || !strings.Contains(string(out), c.want) {
				t.Errorf("%v; want %q in\n%s", err, c.want, out)
			}
		})
	}
}

// TestNeeds is the process that TestMissing looks at.
func TestNeeds(t *testing.T) {
	switch need := os.Getenv("TESTENV_NEED"); need {
	case "":
		t.Skip("only as a child of TestMissing and TestPortsAreReserved")
	case "Postgres":
		testenv.Postgres(t)
	case "a port":
		testenv.FreePort(t)
	default:
		testenv.Tool(t, "nowhere", need)
	}
}

// A port that a process was given is not given to another one, whether or not somebody listens.
func TestPortsAreReserved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, fmt.Sprintf("everflag-ports-%d", os.Getuid())))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range []struct {
		lock int16
		ok   bool
	}{{unix.F_WRLCK, false}, {unix.F_UNLCK, true}} {
		if err := unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: c.lock}); err != nil { // all bytes of it
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNeeds$")
		cmd.Env = []string{"TESTENV_NEED=a port", "TMPDIR=" + dir}
		if out, err := cmd.CombinedOutput(); (err == nil) != c.ok || !c.ok && !strings.Contains(string(out), "no free port between") {
			t.Errorf("reserved: %v; a port for another process: %v\n%s", !c.ok, err, out)
		}
	}
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
