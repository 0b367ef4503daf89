package redisconn

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// dialer returns how connections are made. It never fails: a server that cannot be reached is a connection whose every use is the error.
//
// The client library would otherwise count failed dials, and after as many as the pool is large answer every command with the last error, whatever the
// server does meanwhile, until a look of its own, once a second and without regard to anybody's deadline, gets through. Callers here have a back-off of
// their own, and want the first attempt after the server's return to be the one that works.
func dialer(timeout time.Duration, secure *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	dial := plain.DialContext
	if secure != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: secure}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return unreachable{fmt.Errorf("connecting: %w", err)}, nil // the library takes off what is outermost
		}
		return conn, nil
	}
}

// unreachable is a connection to a server that could not be reached.
type unreachable struct{ err error }

func (u unreachable) Read([]byte) (int, error)         { return 0, u.err }
func (u unreachable) Write([]byte) (int, error)        { return 0, u.err }
func (u unreachable) SetDeadline(time.Time) error      { return u.err }
func (u unreachable) SetReadDeadline(time.Time) error  { return u.err }
func (u unreachable) SetWriteDeadline(time.Time) error { return u.err }
func (unreachable) Close() error                       { return nil }
func (unreachable) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (unreachable) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
