package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// The load comes from a process of its own, the test binary started again: client and server then do not share file descriptors, a scheduler and a heap.
const (
	loadKind = "EVERFLAG_LOAD_KIND" // what to do: one of loads
	loadAddr = "EVERFLAG_LOAD_ADDR"
	loadSize = "EVERFLAG_LOAD_SIZE"
)

var loads = map[string]func(addr string, size int) error{"requests": sendRequests, "connections": holdConnections}

// startLoad starts the process. It says what it did on standard output.
func startLoad(t *testing.T, kind, addr string, size int) *testenv.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return testenv.Run(t, self, []string{loadKind + "=" + kind, loadAddr + "=" + addr, loadSize + "=" + strconv.Itoa(size)})
}

// runLoad is the whole program of that process; it returns the exit code.
func runLoad(kind string) int {
	size, err := strconv.Atoi(os.Getenv(loadSize))
	if err == nil {
		err = loads[kind](os.Getenv(loadAddr), size)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const (
	loadConnections = 8
	loadPipeline    = 32
)

// sendRequests sends that many requests over a few connections that are kept, several at once on each, and wants every answer to be right. Every user is
// a new one, and one request in a hundred has a token that is no team's.
func sendRequests(addr string, size int) error {
	var next, done atomic.Int64
	failures := make(chan error, loadConnections)
	var working sync.WaitGroup
	for range loadConnections {
		working.Go(func() {
			if err := converse(addr, &next, &done, int64(size)); err != nil {
				failures <- err
			}
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-tick.C:
				fmt.Fprintln(os.Stderr, "answered", done.Load())
			case <-ctx.Done():
			}
		}
	})
	working.Wait()
	stop()
	telling.Wait()
	fmt.Fprintln(os.Stderr, "answered", done.Load())
	close(failures)
	return <-failures
}

// converse is one connection's part.
func converse(addr string, next, done *atomic.Int64, size int64) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 64<<10)
	var batch bytes.Buffer
	for {
		first := next.Add(loadPipeline) - loadPipeline
		if first >= size {
			return nil
		}
		batch.Reset()
		for n := first; n < first+loadPipeline; n++ {
			appendRequest(&batch, n)
		}
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := conn.Write(batch.Bytes()); err != nil {
			return err
		}
		for n := first; n < first+loadPipeline; n++ {
			if err := readAnswer(reader, n); err != nil {
				return fmt.Errorf("request %d: %w", n, err)
			}
			done.Add(1)
		}
	}
}

func isForeign(n int64) bool { return n%100 == 99 }

func appendRequest(w *bytes.Buffer, n int64) {
	of := token
	if isForeign(n) {
		of = fmt.Sprint("phc_foreign_", n)
	}
	body := fmt.Sprintf(`{"token":%q,"distinct_id":"user-%d","person_properties":{"plan":"paid","n":%d},"groups":{"organization":"org-%d"}}`, of, n, n, n)
	fmt.Fprintf(w, "POST /flags/?v=2 HTTP/1.1\r\nHost: flags.example\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// readAnswer reads one answer and checks status and beginning.
func readAnswer(r *bufio.Reader, n int64) error {
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	want := "HTTP/1.1 200 "
	if isForeign(n) {
		want = "HTTP/1.1 401 "
	}
	if !strings.HasPrefix(line, want) {
		return fmt.Errorf("got %q, want %s", line, want)
	}
	length := -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length <= 2 {
		return fmt.Errorf("Content-Length is %d", length)
	}
	start, err := r.Peek(1)
	if err != nil || start[0] != '{' {
		return fmt.Errorf("the answer begins with %q (%w)", start, err)
	}
	_, err = r.Discard(length)
	return err
}

// holdConnections opens that many connections: half of them ask once and then do nothing, as SDKs between polls; a quarter sends a header that never
// ends, a quarter a body that never ends, a byte a second. It says when all stand, and again when the server has cut off the slow ones; then it holds
// the others until it is killed.
func holdConnections(addr string, size int) error {
	conns := make([]net.Conn, size)
	var opening sync.WaitGroup
	var failed atomic.Pointer[error]
	var next atomic.Int64
	for range 64 {
		opening.Go(func() {
			for n := next.Add(1) - 1; n < int64(size) && failed.Load() == nil; n = next.Add(1) - 1 {
				var err error
				if conns[n], err = openConnection(addr, n); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	opening.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	fmt.Fprintln(os.Stderr, "open", size)
	start := time.Now()
	slow := 0
	tick := time.NewTicker(time.Second)
	for left := true; left; <-tick.C {
		left, slow = false, 0
		for n, conn := range conns {
			if n%4 < 2 || conn == nil {
				continue
			}
			if cut(conn) {
				conns[n] = nil
				_ = conn.Close() // it is gone already
				continue
			}
			left, slow = true, slow+1
		}
		if time.Since(start) > time.Minute {
			return fmt.Errorf("%d slow connections are still held after a minute", slow)
		}
	}
	fmt.Fprintln(os.Stderr, "cut off")
	for n, conn := range conns {
		if n%4 < 2 && !isQuiet(conn) {
			return errors.New("an idle connection was cut off, too")
		}
	}
	fmt.Fprintln(os.Stderr, "idle ones stand")
	select {}
}

func openConnection(addr string, n int64) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if n%4 < 2 {
		var request bytes.Buffer
		appendRequest(&request, 100*n)
		if _, err := conn.Write(request.Bytes()); err != nil {
			return nil, err
		}
		return conn, readAnswer(bufio.NewReaderSize(conn, 4<<10), 100*n)
	}
	beginning := "POST /flags/ HTTP/1.1\r\nHost: flags.example\r\nX-Slow: "
	if n%4 == 3 {
		beginning = "POST /flags/ HTTP/1.1\r\nHost: flags.example\r\nContent-Length: 100000\r\n\r\n{"
	}
	_, err = io.WriteString(conn, beginning)
	return conn, err
}

// cut sends one more byte and reports whether the server has ended the connection.
func cut(conn net.Conn) bool {
	if _, err := conn.Write([]byte(" ")); err != nil {
		return true
	}
	return !isQuiet(conn)
}

// isQuiet reports that the connection stands and brings nothing.
func isQuiet(conn net.Conn) bool {
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Microsecond)); err != nil {
		return false
	}
	n, err := conn.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}
