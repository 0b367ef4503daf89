package testenv

import (
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Flaky is a TCP proxy that fails on command: the network between a program and its server, in the hands of the test. It starts out transparent; what is
// set holds for connections that exist and for those to come.
//
//	              new connections         open connections
//	Cut           refused                 reset
//	Drop          closed once accepted    reset
//	Stall         accepted, silent        silent both ways, bytes wait
//	HalfClose     accepted, half silent   what the server says is swallowed, what the client says arrives
//	Delay         late                    every chunk late, both ways
//	Retarget      to another server       reset
//	Restore       as usual                as usual; stalled bytes go on, swallowed ones are lost
//
// A stalled connection keeps its bytes, as a network does that loses packets for a while; a half-closed one has lost some for good, so protocols on it
// are out of step after Restore and want a new connection.
type Flaky struct {
	Addr string // what the program connects to

	accepted, active, toServer, toClient atomic.Int64

	mu       sync.Mutex // guards what follows
	target   string
	changed  chan struct{}
	mode     mode
	delay    time.Duration
	listener net.Listener // nil while cut
	links    []*link
	closed   bool

	running sync.WaitGroup
}

type mode int

const (
	passing mode = iota
	cut
	dropping
	stalled
	halfClosed
)

// Counts is what has come through a proxy.
type Counts struct {
	Accepted int64 // connections ever taken
	Active   int64 // connections open now
	ToServer int64 // bytes passed on
	ToClient int64
}

// Proxy starts a proxy before a target, host:port or the path of a Unix socket. It is closed when the test ends.
func Proxy(t testing.TB, target string) *Flaky {
	t.Helper()
	p := &Flaky{Addr: net.JoinHostPort("127.0.0.1", FreePort(t)), target: target, changed: make(chan struct{})}
	if err := p.listen(); err != nil {
		t.Fatalf("starting a proxy: %v", err)
	}
	t.Cleanup(p.close)
	return p
}

// URL returns the same address through the proxy: redis://, postgres:// or any other with a host.
func (p *Flaky) URL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw // then it is no address, and whoever connects to it says so better
	}
	u.Host = p.Addr
	return u.String()
}

// Cut resets all connections and refuses new ones, like a server whose machine is up and whose process is not.
func (p *Flaky) Cut() { p.set(cut) }

// Drop resets all connections and closes new ones at once, like a load balancer without a server behind it.
func (p *Flaky) Drop() { p.set(dropping) }

// Stall lets nothing through either way while connections stay open, like a network that has lost its route.
func (p *Flaky) Stall() { p.set(stalled) }

// HalfClose swallows silently what the server sends while the server still receives: commands take effect and nobody hears of it.
func (p *Flaky) HalfClose() { p.set(halfClosed) }

// Restore undoes all of the above and the delay.
func (p *Flaky) Restore() {
	p.Delay(0)
	p.set(passing)
}

// Retarget resets all connections and leads new ones to another server.
func (p *Flaky) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.resetAll()
}

// Delay holds back every chunk by d, both ways.
func (p *Flaky) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
	p.announce()
}

// Counts returns what has come through so far.
func (p *Flaky) Counts() Counts {
	return Counts{Accepted: p.accepted.Load(), Active: p.active.Load(), ToServer: p.toServer.Load(), ToClient: p.toClient.Load()}
}

// set changes the mode. It returns when the change is in force for every connection.
func (p *Flaky) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.mode = m
	p.announce()
	if m == cut || m == dropping {
		p.resetAll()
	}
	switch {
	case m == cut && p.listener != nil:
		p.listener.Close()
		p.listener = nil
	case m != cut && p.listener == nil:
		if err := p.listen(); err != nil {
			panic("testenv: listening again on " + p.Addr + ": " + err.Error()) // the port is reserved; nothing sensible can go on
		}
	}
}

// announce wakes whoever waits for a change. p.mu is held.
func (p *Flaky) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// resetAll breaks every connection as a dying machine does: with RST, not with an orderly end. p.mu is held.
func (p *Flaky) resetAll() {
	for _, l := range p.links {
		l.reset()
	}
}

// listen opens the listener and accepts from it. p.mu is held, or p is new.
func (p *Flaky) listen() error {
	listener, err := net.Listen("tcp", p.Addr)
	if err != nil {
		return err
	}
	p.listener = listener
	p.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed by Cut or at the end
			}
			p.accepted.Add(1)
			p.running.Go(func() { p.serve(conn.(*net.TCPConn)) })
		}
	})
	return nil
}

func (p *Flaky) close() {
	p.mu.Lock()
	p.closed = true
	if p.listener != nil {
		p.listener.Close()
	}
	p.announce()
	p.resetAll()
	p.mu.Unlock()
	p.running.Wait()
}

// link is one connection through the proxy.
type link struct {
	client *net.TCPConn
	server net.Conn
	broken chan struct{}
	once   sync.Once
}

func (l *link) reset() {
	l.once.Do(func() {
		close(l.broken)
		l.client.SetLinger(0)
		if tcp, ok := l.server.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		l.client.Close()
		l.server.Close()
	})
}

// serve connects to the target and copies both ways until one side ends.
func (p *Flaky) serve(client *net.TCPConn) {
	server, target, err := p.dial()
	if err != nil {
		client.SetLinger(0)
		client.Close()
		return
	}
	l := &link{client: client, server: server, broken: make(chan struct{})}
	if !p.add(l, target) {
		l.reset()
		return
	}
	p.active.Add(1)
	defer p.active.Add(-1)
	defer p.remove(l)

	var both sync.WaitGroup
	both.Go(func() { p.pump(l, server, client, &p.toServer, false) })
	both.Go(func() { p.pump(l, client, server, &p.toClient, true) })
	both.Wait()
	l.reset()
}

func (p *Flaky) dial() (server net.Conn, target string, err error) {
	p.mu.Lock()
	target = p.target
	p.mu.Unlock()
	network := "tcp"
	if len(target) > 0 && target[0] == '/' {
		network = "unix"
	}
	server, err = net.DialTimeout(network, target, stepTimeout)
	return server, target, err
}

func (p *Flaky) add(l *link, target string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.mode == cut || p.mode == dropping || p.target != target {
		return false
	}
	p.links = append(p.links, l)
	return true
}

func (p *Flaky) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links = slices.DeleteFunc(p.links, func(other *link) bool { return other == l })
}

// pump copies one direction. An orderly end is passed on as such, so that the other direction may still finish.
func (p *Flaky) pump(l *link, to, from net.Conn, count *atomic.Int64, fromServer bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			swallow, ok := p.admit(l, fromServer)
			if !ok {
				return
			}
			if !swallow {
				if _, err := to.Write(buffer[:n]); err != nil {
					l.reset()
					return
				}
				count.Add(int64(n))
			}
		}
		if err == nil {
			continue
		}
		if swallow, ok := p.admit(l, fromServer); !ok || swallow {
			return
		}
		if half, ok := to.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) {
			_ = half.CloseWrite() // fails if that side has gone too, which is just as well
			return
		}
		l.reset()
		return
	}
}

// admit waits until bytes may pass: for the delay, and for as long as the proxy is stalled. It returns whether they are to be swallowed instead, and
// false if the connection has broken meanwhile.
func (p *Flaky) admit(l *link, fromServer bool) (swallow, ok bool) {
	arrived := time.Now()
	for {
		p.mu.Lock()
		mode, delay, changed := p.mode, p.delay, p.changed
		p.mu.Unlock()
		var due <-chan time.Time
		switch rest := time.Until(arrived.Add(delay)); {
		case mode == stalled:
		case rest > 0:
			due = time.After(rest)
		default:
			return mode == halfClosed && fromServer, true
		}
		select {
		case <-l.broken:
			return false, false
		case <-changed:
		case <-due:
		}
	}
}
