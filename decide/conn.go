package decide

import (
	"context"
	"net"
)

// wholeConn sends an answer in one system call. net/http fills 4 KiB with the head and the first part of the body, sends that, and then the rest; the
// second call is a sixth of what a flag request costs. One goroutine at a time writes to a connection, that of its request.
type wholeConn struct {
	*net.TCPConn // not net.Conn: net/http looks for CloseWrite

	expected int    // nothing is sent before so many bytes have come; 0 = all is sent at once
	held     []byte // what has come: less than one buffer of net/http, unless a head is larger
	parts    [2][]byte
}

// Write implements net.Conn.
func (c *wholeConn) Write(p []byte) (int, error) {
	if len(c.held)+len(p) < c.expected {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	c.expected = 0
	if len(c.held) == 0 {
		return c.TCPConn.Write(p)
	}
	before := len(c.held)
	c.parts = [2][]byte{c.held, p}
	buffers := net.Buffers(c.parts[:])
	n, err := buffers.WriteTo(c.TCPConn)
	c.held, c.parts = c.held[:0], [2][]byte{}
	return max(0, int(n)-before), err
}

// wholeConns gives the connections of a listener this form. Those of TLS stay as they are: net/http must know them.
type wholeConns struct{ net.Listener }

// Accept implements net.Listener.
func (l wholeConns) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &wholeConn{TCPConn: tcp}, nil
	}
	return conn, err
}

type connKey struct{}

// withConn lets a request find its connection.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*wholeConn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// expectAnswer says that a body of that many bytes will be written, all of it. The head comes on top, so that the last byte always gets out.
func expectAnswer(ctx context.Context, bytes int) {
	if c, ok := ctx.Value(connKey{}).(*wholeConn); ok {
		c.expected = bytes
	}
}
