package decide

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// pairOf is a connection as the listener gives it, and its other end.
func pairOf(t *testing.T) (client net.Conn, server *wholeConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	conn, err := (wholeConns{listener}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); conn.Close() })
	return client, conn.(*wholeConn)
}

// What is written comes out, in order and complete, however it was cut; nothing is held once the body is whole.
func TestWholeConn(t *testing.T) {
	t.Parallel()
	client, conn := pairOf(t)
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(client) // what is missing shows
		got <- all
	}()
	var want []byte
	for i, size := range []int{1, 100, 4000, 4095, 4096, 4097, 20_000, 200_000} {
		answer := append(bytes.Repeat([]byte{'h'}, 40), bytes.Repeat([]byte{byte('a' + i)}, size)...) // a head of 40 bytes and a body
		want = append(want, answer...)
		conn.expected = size
		for cut := min(4096, len(answer)); len(answer) > 0; cut = len(answer) { // as net/http cuts
			n, err := conn.Write(answer[:cut])
			if n != cut || err != nil {
				t.Fatalf("body of %d: wrote %d of %d: %v", size, n, cut, err)
			}
			if answer = answer[cut:]; size > 4096 && len(answer) > 0 && len(conn.held) != cut {
				t.Errorf("body of %d: the first %d bytes left by themselves", size, cut)
			}
		}
		if len(conn.held) != 0 || conn.expected != 0 {
			t.Errorf("body of %d: %d bytes are still held", size, len(conn.held))
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("%d bytes came out, of %d", len(all), len(want))
	}
}

// A write that fails says so, and says that nothing of the last piece got out.
func TestWholeConnFails(t *testing.T) {
	t.Parallel()
	_, conn := pairOf(t)
	conn.expected = 10_000
	if n, err := conn.Write(make([]byte, 4096)); n != 4096 || err != nil {
		t.Fatal(n, err)
	}
	if err := conn.TCPConn.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Write(make([]byte, 8000)); n != 0 || err == nil {
		t.Errorf("wrote %d bytes to a closed connection, error %v", n, err)
	}
}

// Answers of every size come through the real server on one connection, also after errors and HEAD, which have no body or another one.
func TestAnswersOnOneConnection(t *testing.T) {
	t.Parallel()
	for _, flags := range []int{1, 12, 50, 350} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			t.Parallel()
			h, _ := newTestHandler(t, Config{}, referenceFlags(flags)...)
			addr, _, _ := serve(t, ServerConfig{}, Stop{}, h)
			conn := dial(t, addr, "")
			answers := bufio.NewReader(conn)
			for _, request := range []string{
				post(referenceBody, len(referenceBody)), post("{", 1), "HEAD /flags/ HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS /flags/ HTTP/1.1\r\nHost: x\r\n\r\n",
				"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", post(referenceBody, len(referenceBody)),
			} {
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				method, _, _ := strings.Cut(request, " ")
				answer, err := http.ReadResponse(answers, &http.Request{Method: method})
				if err != nil {
					t.Fatalf("%.40q: %v", request, err)
				}
				body, err := io.ReadAll(answer.Body)
				if err != nil {
					t.Fatalf("%.40q: %v", request, err)
				}
				if request == post(referenceBody, len(referenceBody)) && (answer.StatusCode != 200 || bytes.Count(body, []byte(`"enabled"`)) != flags) {
					t.Errorf("%s with %d of %d flags", answer.Status, bytes.Count(body, []byte(`"enabled"`)), flags)
				}
			}
		})
	}
}

// A listener for TLS keeps its connections: net/http has to know them.
func TestWholeConnsLeaveTLSAlone(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	conn, err := (wholeConns{&oneConn{conn: server}}).Accept()
	if conn != server || err != nil {
		t.Errorf("got %T, %v", conn, err)
	}
	if NewServer(ServerConfig{}, nil, zap.NewNop()).ConnContext(t.Context(), conn).Value(connKey{}) != nil {
		t.Error("the context of such a connection has one of ours")
	}
}

// oneConn is a listener with one connection.
type oneConn struct {
	net.Listener
	conn net.Conn
}

func (l *oneConn) Accept() (net.Conn, error) { return l.conn, nil }
