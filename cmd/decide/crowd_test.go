package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// TestCrowdOfLargeBodies wants memory to stay within bounds when clients come with large bodies all at once: 1,000 that do not send the last byte, and 250 whose
// 8 kB inflate to almost as much as is allowed. Small requests are answered beside them. S35, S49.
func TestCrowdOfLargeBodies(t *testing.T) {
	t.Parallel()
	const slow, compressed, limit = 1000, 250, 512 << 20
	d := startTarget(t)
	before := testenv.Resident(t, d.PID())
	highest := before
	look := func() {
		t.Helper()
		if status, _, err := ask(d.addr); err != nil || status != http.StatusOK {
			t.Fatalf("a small request: status %d, %v", status, err)
		}
		highest = max(highest, testenv.Resident(t, d.PID()))
	}

	conns := make([]net.Conn, slow)
	head := "POST /flags/?v=2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
	body := strings.Repeat(" ", 999_999)
	for n := range conns {
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns[n] = conn
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, head+body) // the server may well answer and hang up before it has read all
		if n%100 == 0 {
			look()
		}
	}
	look()
	for _, conn := range conns {
		_ = conn.Close() // its request never ends
	}
	t.Logf("%d slow clients: resident %d MiB before, %d MiB at most", slow, before>>20, highest>>20)

	var large bytes.Buffer
	w := gzip.NewWriter(&large)
	fmt.Fprintf(w, `{"token":%q,"distinct_id":"ada","person_properties":{"plan":"%s"}}`, token, strings.Repeat("x", 8_000_000))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	for range compressed {
		sending.Go(func() {
			response, err := http.Post("http://"+d.addr+"/flags/?v=2", "application/json", bytes.NewReader(large.Bytes())) //nolint:noctx // because the server has time-outs
			if err != nil {
				t.Error(err)
				return
			}
			_ = response.Body.Close() // only the status is of interest
			if response.StatusCode != http.StatusOK {
				t.Errorf("a body of %d bytes that inflates to 8 MB: %s", large.Len(), response.Status)
			}
		})
	}
	done := make(chan struct{})
	go func() { sending.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
			look()
		}
	}
	t.Logf("and %d whose bodies inflate: %d MiB at most", compressed, highest>>20)
	if highest > before+limit {
		t.Errorf("resident memory reached %d MiB, more than %d above the %d before", highest>>20, limit>>20, before>>20)
	}
	checkNoPanic(t, d)
}
