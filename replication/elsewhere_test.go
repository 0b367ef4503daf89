package replication

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/testenv"
)

// balancer passes each new connection on to the server that choose names for its number.
type balancer struct {
	addr     string
	choose   atomic.Pointer[func(n int) string]
	listener net.Listener
	open     sync.Map // net.Conn
	running  sync.WaitGroup
}

func newBalancer(t *testing.T, choose func(n int) string) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{addr: listener.Addr().String(), listener: listener}
	b.choose.Store(&choose)
	b.running.Go(b.serve)
	t.Cleanup(func() {
		_ = listener.Close() // ends serve
		b.open.Range(func(conn, _ any) bool {
			_ = conn.(net.Conn).Close() // ends its copying
			return true
		})
		b.running.Wait()
	})
	return b
}

func (b *balancer) serve() {
	for n := 0; ; n++ {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", (*b.choose.Load())(n))
		if err != nil {
			_ = client.Close() // the client tries again
			continue
		}
		b.open.Store(client, nil)
		b.open.Store(server, nil)
		for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
			b.running.Go(func() {
				_, _ = io.Copy(pair[0], pair[1]) // however it ends
				_, _ = pair[0].Close(), pair[1].Close()
			})
		}
	}
}

// F25, F24: connections that are spread over servers, or come to lead elsewhere, are refused with the remedy; nothing of the other server is ever cached.
func TestConnectionsLeadElsewhere(t *testing.T) {
	t.Parallel()
	b, server := own(t, nil)
	other := testenv.PostgresServer(t, testenv.PGOptions{})
	createLike(t, other, b.db.Name)

	here := func(int) string { return server.Addr }
	alternating := func(n int) string { return []string{server.Addr, other.Addr}[n%2] }
	between := newBalancer(t, alternating)
	b.cfg.PostgresURL = strings.Replace(b.cfg.PostgresURL, server.Addr, between.addr, 1)
	// Each alone, because every connection shifts the turns of the others: two in a row that lead to one server would be a session.
	findings, err := Check(t.Context(), b.cfg)
	if text := fmt.Sprint(findings, err); !strings.Contains(text, "different clusters") {
		t.Errorf("check finds %s", text)
	}
	r := b.start()
	b.eventually(func() error {
		if s := r.Status(); !strings.Contains(s.LastError, "different clusters") || !strings.Contains(s.LastError, "without a pooler") {
			return fmt.Errorf("last error is %q", s.LastError)
		}
		return nil
	})
	if p := b.sink.position(); p.Checkpoint != 0 || len(b.sink.snapshot()) != 0 {
		t.Errorf("something was cached: %+v", p)
	}

	between.choose.Store(&here)
	b.equal()
	// The session goes on where it is; what a copy opens now leads elsewhere.
	elsewhere := func(int) string { return other.Addr }
	between.choose.Store(&elsewhere)
	rebuilt := make(chan error, 1)
	go func() {
		_, err := r.Rebuild(t.Context())
		rebuilt <- err
	}()
	b.eventually(func() error {
		for _, e := range b.logs.FilterMessage("a reconcile did not complete, trying again").All() {
			if text, _ := e.ContextMap()["error"].(string); strings.Contains(text, "different clusters") {
				return nil
			}
		}
		return errors.New("nothing is said of it")
	})
	b.exec("UPDATE posthog_featureflag SET name = 'here'")
	b.eventually(b.difference)
	between.choose.Store(&here)
	if err := <-rebuilt; err != nil {
		t.Error(err)
	}
	b.equal()
}

// createLike creates an empty copy of the tables on another server.
func createLike(t *testing.T, other *testenv.PGServer, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), other.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+pgx.Identifier{database}.Sanitize())
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if conn, err = pgx.Connect(t.Context(), other.URL(database)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), strings.Split(smallSchema, "INSERT INTO")[0])
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}
