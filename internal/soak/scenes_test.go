package soak

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/everflag/everflag/internal/testenv/abuse"
)

// front picks a decide process.
func (a *arena) front() *front { return a.fronts[a.rng.IntN(len(a.fronts))] }

// allDown kills Postgres, then the replicators, then Redis. From then on no answer changes. On request decide is restarted meanwhile: it has its file and
// nothing else, and answers the same. All the rest comes back in any order.
func (a *arena) allDown(restart bool) (heal func()) {
	keep := a.rng.IntN(2) == 0 // the data of Redis
	a.pg.Kill(a.t)
	a.pause(a.some(time.Second))
	for _, n := range a.nodes {
		n.kill()
	}
	a.pause(a.some(time.Second))
	if keep {
		a.save()
	} else {
		a.loseDump()
	}
	a.servers.inUse.Kill(a.t)
	a.pause(300 * time.Millisecond) // for what has been received
	a.phase.Store(still)
	a.event("all servers are down")
	if restart {
		a.pause(300 * time.Millisecond) // so that readers have heard answers to compare with
		for _, f := range a.fronts {
			f.away.Store(true)
			f.program.Signal(a.t, syscall.SIGTERM) // which writes the file once more
		}
		for _, f := range a.fronts {
			a.ended(f)
			f.start()
		}
		again := a.front()
		again.kill()
		again.start()
	}
	return func() {
		a.phase.Store(busy)
		starts := []func(){
			func() { a.pg.Start(a.t) }, func() { a.servers.inUse.Start(a.t) }, func() { a.nodes[0].start("") }, func() { a.nodes[1].start("") },
		}
		a.rng.Shuffle(len(starts), func(i, j int) { starts[i], starts[j] = starts[j], starts[i] })
		for _, start := range starts {
			start()
			a.pause(a.some(500 * time.Millisecond))
		}
	}
}

func (a *arena) some(atMost time.Duration) time.Duration {
	return time.Duration(a.rng.Int64N(int64(atMost)))
}

// ended waits for a decide process that was asked to end.
func (a *arena) ended(f *front) {
	if code := f.program.Wait(a.t); code != 0 {
		a.t.Errorf("difference: decide ended with %d after SIGTERM", code)
	}
}

// restart ends a decide process in order, so that it writes its file, and starts it again.
func (a *arena) restart(f *front) {
	f.away.Store(true)
	f.program.Signal(a.t, syscall.SIGTERM)
	a.ended(f)
	f.start()
}

// rollingRestart restarts the decide processes one after the other, under load through a balancer: no request fails.
func (a *arena) rollingRestart() (heal func()) {
	ctx, stop := context.WithCancel(a.t.Context())
	var asking sync.WaitGroup
	var asked atomic.Int64
	for n := range 4 {
		asking.Go(func() {
			transport := &http.Transport{DisableKeepAlives: n == 0, MaxIdleConnsPerHost: 1}
			through := &front{said: a.fronts[0].said, addr: a.balancer.Addr, client: http.Client{Timeout: 10 * time.Second, Transport: transport}}
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				token := steadyToken(steadyFrom + n%3)
				_, answer, err := through.ask(a.t.Context(), token)
				if err == nil {
					_, err = through.said.judge(token, answer, 0) // one process may be behind another
				}
				if err != nil {
					a.fronts[0].fault(fmt.Errorf("through the balancer: %w", err))
				}
				asked.Add(1)
				a.pause(time.Millisecond)
			}
		})
	}
	for i, f := range a.fronts {
		a.restart(f)
		for !a.backends[i].IsReady() && !a.t.Failed() {
			a.pause(5 * time.Millisecond)
		}
	}
	stop()
	asking.Wait()
	a.balanced += asked.Load()
	return nothing
}

// beHostile sends bad requests of random kinds to one decide process.
func (a *arena) beHostile() (heal func()) {
	if a.bad == nil {
		a.bad = abuse.Requests(a.t, steadyToken(steadyFrom))
	}
	f, names := a.front(), sortedKeys(a.bad)
	for range 30 {
		name := names[a.rng.IntN(len(names))]
		kind := a.bad[name]
		status, err := kind.Send(f.addr)
		unsure := kind.Status == http.StatusUnauthorized && status == http.StatusServiceUnavailable // with Redis away, or not yet complete
		if status != kind.Status && !unsure {
			a.t.Errorf("difference: %s: status %d (%v), want %d", name, status, err, kind.Status)
		}
		a.hostile++
	}
	select {
	case <-f.program.Ended():
		a.t.Error("difference: decide ended after hostile requests")
	default:
	}
	return nothing
}

// dribble opens connections on which a request arrives byte by byte and never ends.
func (a *arena) dribble() (heal func()) {
	const connections = 300
	f := a.front()
	var open []net.Conn
	for range connections {
		conn, err := net.DialTimeout("tcp", f.addr, time.Second)
		if err != nil {
			a.t.Errorf("difference: decide does not accept connection %d: %v", len(open), err)
			break
		}
		open = append(open, conn)
	}
	ctx, stop := context.WithCancel(a.t.Context())
	var dribbling sync.WaitGroup
	dribbling.Go(func() {
		const request = "POST /flags/?v=2 HTTP/1.1\r\nHost: x\r\nX-Slow: "
		for i := 0; ctx.Err() == nil; i++ {
			text := "x"
			if i < len(request) {
				text = request[i : i+1]
			}
			for _, conn := range open {
				_, _ = io.WriteString(conn, text) // the server may hang up: that is its defence
			}
			a.pause(100 * time.Millisecond)
		}
	})
	return func() {
		stop()
		dribbling.Wait()
		for _, conn := range open {
			_ = conn.Close() // it was never answered
		}
	}
}

// rotateToken gives the nomad a new token: the old one is nobody's from then on.
func (a *arena) rotateToken() (heal func()) {
	a.commit(fmt.Sprintf("UPDATE posthog_team SET api_token = '%s' WHERE id = %d", a.newToken(), nomad))
	return nothing
}

// deleteTeam deletes the nomad, and makes it again with the same token or another one.
func (a *arena) deleteTeam() (heal func()) {
	a.commit(fmt.Sprintf("DELETE FROM posthog_featureflag WHERE team_id = %d", nomad), fmt.Sprintf("DELETE FROM posthog_team WHERE id = %d", nomad))
	token := a.newToken()
	if known := a.fronts[0].said.nomadic(); a.rng.IntN(2) == 0 && len(known) > 0 {
		token = known[len(known)-1]
	}
	return func() {
		a.load.Lock()
		rows := a.load.author.nomad(token)
		a.load.Unlock()
		var texts []string
		for _, row := range rows {
			texts = append(texts, row.sql)
		}
		a.commit(texts...)
	}
}

func (a *arena) newToken() string {
	a.load.Lock()
	defer a.load.Unlock()
	return fmt.Sprint("phc_nomad_", a.load.author.next())
}
