package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/redisconn"
)

// coresSection calls the request handler without sockets, on one core and on two.
func coresSection(ctx context.Context, h *harness) error {
	if cores() < 2 {
		return errors.New("this machine has one core")
	}
	c, err := h.fill(ctx, only(teamRows(1, referenceToken, 50, false)))
	if err != nil {
		return err
	}
	client, err := redisconn.Open(redisconn.Config{URL: c.redis.URL(0)})
	if err != nil {
		return err
	}
	h.cleanup(client.Close)
	definitions := store.New(store.Config{Client: client})
	ctx, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { _ = definitions.Run(ctx) }) // its end is the section's
	h.cleanup(func() error { stop(); following.Wait(); return nil })
	err = poll(ctx, 10*time.Second, "definitions", func() (bool, error) { return definitions.Position().Ready, nil })
	if err != nil {
		return err
	}
	handler := decide.New(decide.Config{}, definitions, zap.NewNop(), decide.NewMetrics(prometheus.NewRegistry()))
	var one, two, cpuOne, cpuTwo series
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	err = h.turns(func() error { return serve(handler, 1, h.span(), &one, &cpuOne) }, func() error { return serve(handler, 2, h.span(), &two, &cpuTwo) })
	h.report.table("50 flags, in the process", "requests/s", "CPU µs/request")
	h.report.row("GOMAXPROCS=1", one, cpuOne)
	h.report.row("GOMAXPROCS=2", two, cpuTwo)
	scaled := series{}
	for _, ratio := range cpuOne.ratio(cpuTwo) {
		scaled = append(scaled, 2*ratio)
	}
	h.report.note("By CPU time the second core is worth %v cores in all: that is the ratio on a machine where nobody else uses it.", scaled)
	h.report.atLeast("second core (requests/s)", two.ratio(one), 1.8, "×")
	h.report.atLeast("second core (by CPU time)", scaled, 1.8, "×")
	return err
}

// serve has as many goroutines as cores call the handler.
func serve(handler http.Handler, cores int, span time.Duration, rate, cpu *series) error {
	runtime.GOMAXPROCS(cores)
	var all sync.WaitGroup
	var requests, failed atomic.Int64
	before, start := processTime(), time.Now()
	for range cores {
		all.Go(func() {
			text := []byte(requestBody(referenceToken))
			body := bytes.NewReader(text)
			r, err := http.NewRequest(http.MethodPost, "http://bench"+requestPath, io.NopCloser(body))
			if err != nil {
				failed.Add(1)
				return
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("User-Agent", "posthog-go/1.5.2")
			r.RequestURI, r.RemoteAddr, r.ContentLength = requestPath, "127.0.0.1:1", body.Size()
			w := &discard{header: http.Header{}}
			for time.Since(start) < span {
				for range 100 {
					body.Reset(text)
					clear(w.header)
					handler.ServeHTTP(w, r)
				}
				requests.Add(100)
			}
			if w.status != http.StatusOK {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		return errors.New("the handler does not answer 200")
	}
	n := float64(requests.Load())
	*rate = append(*rate, n/time.Since(start).Seconds())
	*cpu = append(*cpu, float64((processTime()-before).Microseconds())/n)
	return nil
}

// processTime is the CPU time of this process.
func processTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// discard is a ResponseWriter that keeps nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
