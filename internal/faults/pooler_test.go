package faults

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

// pgBouncer starts one in front of a database and returns its address, as that of the database. It takes whatever settings a client names, if lenient.
func pgBouncer(t *testing.T, database string, lenient bool) string {
	t.Helper()
	binary := testenv.Tool(t, "pgbouncer", "pgbouncer")
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	own := testenv.FreePort(t)
	conf := fmt.Sprintf("[databases]\n* = host=%s port=%s user=%s password=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\nunix_socket_dir =\nauth_type = any\n",
		host, port, u.User.Username(), password, own)
	if lenient {
		conf += "ignore_startup_parameters = bytea_output, extra_float_digits, IntervalStyle, search_path, statement_timeout, lock_timeout, " +
			"idle_in_transaction_session_timeout, default_transaction_read_only\n"
	}
	if os.Getuid() == 0 { // it does not serve as root
		conf += "user = nobody\n"
	}
	file := filepath.Join(t.TempDir(), "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p := testenv.Run(t, binary, nil, file)
	p.WaitForLog(t, "process up")
	u.Host = "127.0.0.1:" + own
	return u.String()
}

// F25: behind PgBouncer, the replicator says what is in the way and ends, and `check` finds it, too.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	for name, lenient := range map[string]bool{"as it is installed": false, "that ignores settings": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, _ := plain(t, testenv.PGOptions{}, testenv.RedisOptions{})
			pooled := pgBouncer(t, s.postgres, lenient)
			r := s.replicator("REPLICATOR_POSTGRES_URL=" + pooled)
			if code := r.Wait(t); code != 1 || len(r.said("connect to Postgres itself")) == 0 {
				t.Errorf("exit code %d\n%s", code, strings.Join(r.Logs(), "\n"))
			}
			s.postgres = pooled
			if out, code := s.command(r, "check"); code != 2 || !strings.Contains(out, "onnect to Postgres itself") {
				t.Errorf("check ends with %d: %s", code, out)
			}
		})
	}
}
