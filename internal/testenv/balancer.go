package testenv

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Balancer passes TCP connections on to backends in turn, and knows nothing of what they say: it asks each now and then whether it is ready, and takes the
// next one if a backend is not, or does not accept. Connections that stand stay where they are.
type Balancer struct {
	Addr string // what clients connect to

	listener net.Listener
	backends []*Backend
	next     atomic.Int64
	standing sync.WaitGroup
}

// Backend is a program behind a Balancer.
type Backend struct {
	Addr  string // host:port
	Ready string // address that answers 200 while it is ready

	ready atomic.Bool
}

// IsReady reports what the balancer was told last.
func (b *Backend) IsReady() bool { return b.ready.Load() }

const probePeriod = 50 * time.Millisecond

// Balance starts a balancer. It ends with the test.
func Balance(t testing.TB, backends []*Backend) *Balancer {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", FreePort(t)))
	if err != nil {
		t.Fatalf("starting a balancer: %v", err)
	}
	b := &Balancer{Addr: listener.Addr().String(), listener: listener, backends: backends}
	ctx, cancel := context.WithCancel(context.Background())
	b.standing.Go(b.accept)
	for _, to := range backends {
		b.standing.Go(func() { to.probe(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		_ = listener.Close() // it was only accepting
		b.standing.Wait()
	})
	return b
}

func (b *Backend) probe(ctx context.Context) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(probePeriod)
	defer tick.Stop()
	for {
		b.ready.Store(b.ask(ctx, client))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (b *Backend) ask(ctx context.Context, client *http.Client) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.Ready, nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close() // only the status is of interest
	return response.StatusCode == http.StatusOK
}

func (b *Balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return // closed at the end
		}
		b.standing.Go(func() {
			defer client.Close()
			server, err := b.dial()
			if err != nil {
				return
			}
			defer server.Close()
			var both sync.WaitGroup
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)              // however it ends,
				_ = to.(*net.TCPConn).CloseWrite()    // the other side is told
				_ = from.SetReadDeadline(time.Time{}) // and may still speak
			}
			both.Go(func() { pass(server, client) })
			both.Go(func() { pass(client, server); _ = client.Close() })
			both.Wait()
		})
	}
}

func (b *Balancer) dial() (conn net.Conn, err error) {
	for range 2 * len(b.backends) {
		to := b.backends[int(b.next.Add(1))%len(b.backends)]
		if !to.ready.Load() {
			continue
		}
		if conn, err = net.DialTimeout("tcp", to.Addr, time.Second); err == nil {
			return conn, nil
		}
	}
	return nil, fmt.Errorf("nobody takes the connection: %w", err)
}
