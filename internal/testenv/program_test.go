package testenv_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

func TestBuildAndRun(t *testing.T) {
	t.Parallel()
	binary := testenv.Build(t, "internal/testenv/testdata/parrot")
	if again := testenv.Build(t, "internal/testenv/testdata/parrot"); again != binary {
		t.Errorf("built twice: %s and %s", binary, again)
	}
	p := testenv.Run(t, binary, []string{"PARROT_WORD=hello"}, "one", "two")
	wantEqual(t, "the logged line", p.WaitForLog(t, "word"), "word=hello args=one,two")
	wantEqual(t, "standard output", p.Stdout(), "")

	p.Signal(t, syscall.SIGHUP)
	p.WaitForLog(t, "got hangup")
	p.Signal(t, syscall.SIGHUP)
	wantEqual(t, "equal lines", len(p.WaitForLogs(t, "got hangup", 2)), 2)

	p.Signal(t, syscall.SIGTERM)
	wantEqual(t, "the exit code", p.Wait(t), 3)
	wantEqual(t, "standard output at the end", p.Stdout(), "bye\n")
}

func TestRunHidesTheEnvironment(t *testing.T) {
	t.Setenv("PARROT_WORD", "leaked")
	p := testenv.Run(t, testenv.Build(t, "internal/testenv/testdata/parrot"), nil)
	wantEqual(t, "the logged line", p.WaitForLog(t, "word"), "word= args=")
	p.Kill(t)
	wantEqual(t, "the exit code after SIGKILL", p.Wait(t), -1)
}

// A test process that dies without a chance to clean up leaves no server, no program and no file, not even a frozen server.
func TestReaperCleansUpAfterSIGKILL(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_POSTGRES_URL")+os.Getenv("TEST_REDIS_URL") != "" || os.Getenv("TEST_SERVERS") == "docker" {
		t.Skip("the servers are not processes of ours")
	}
	p := testenv.Run(t, os.Args[0], []string{"TESTENV_LEAVE=1", "TEST_SERVERS=local"}, "-test.run=^TestLeaveEverything$", "-test.v")
	var root string
	var pids []string
	testenv.Eventually(t, 3*soon, func() error {
		for line := range strings.Lines(p.Stdout()) {
			if _, after, found := strings.Cut(strings.TrimSpace(line), "left "); found && strings.Contains(after, ";") {
				root, after, _ = strings.Cut(after, ";")
				pids = strings.Fields(after)
			}
		}
		return expect(len(pids) >= 4, "%d processes in %q; logs %q", len(pids), root, p.Logs())
	})
	for _, pid := range pids {
		if _, err := os.Stat("/proc/" + pid); err != nil {
			t.Fatalf("process %s is gone before its time", pid)
		}
	}
	p.Kill(t)
	testenv.Eventually(t, soon, func() error {
		_, err := os.Stat(root)
		return expect(os.IsNotExist(err), "%s is still there", root)
	})
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			t.Errorf("process still runs: %s", stat)
		}
	}
}

// TestLeaveEverything is the process that TestReaperCleansUpAfterSIGKILL kills.
func TestLeaveEverything(t *testing.T) {
	if os.Getenv("TESTENV_LEAVE") == "" {
		t.Skip("only as a child of TestReaperCleansUpAfterSIGKILL")
	}
	testenv.Postgres(t)
	testenv.Redis(t)
	own := testenv.PostgresServer(t, testenv.PGOptions{})
	own.Freeze(t)
	frozen := testenv.RedisServer(t, testenv.RedisOptions{})
	frozen.Freeze(t)
	root := filepath.Dir(filepath.Dir(frozen.Socket))
	notes, err := filepath.Glob(filepath.Join(root, "pids", "*"))
	want(t, "listing", err)
	line := "left " + root + ";"
	for _, note := range notes {
		pid, _, _ := strings.Cut(filepath.Base(note), ".")
		line += " " + pid
	}
	if _, err := os.Stdout.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
	<-t.Context().Done() // until killed
}
