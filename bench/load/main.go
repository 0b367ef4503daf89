//go:build linux

// Command load sends one request over and over on keep-alive connections and prints what came back as JSON. With a rate it holds that rate whatever the
// server does, and measures each request from the moment it was due, so that a pause of the server is not left out of its latency.
//
// One thread does everything, with ppoll and its nanoseconds: the timers of the Go runtime end up to a millisecond late when a program is idle, which is
// more than most answers take.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"
	"runtime/debug"
	"slices"
	"time"
)

// result is what one run found.
type result struct {
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
}

func main() {
	addr := flag.String("addr", "", "IPv4 address and port of the server")
	file := flag.String("request", "", "file with the whole request as it goes over the wire")
	connections := flag.Int("connections", 16, "connections")
	span := flag.Duration("for", time.Second, "how long")
	rate := flag.Float64("rate", 0, "requests per second of all connections together; 0 = as many as go")
	flag.Parse()
	debug.SetGCPercent(-1) // it keeps a few megabytes, and its own pauses would be counted as the server's
	request, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	l := loop{request: request, took: make([]time.Duration, 0, 1<<20)}
	if *rate > 0 {
		l.every = time.Duration(float64(*connections) / *rate * float64(time.Second))
	}
	if err := l.open(*addr, *connections); err != nil {
		log.Fatal(err)
	}
	seconds, err := l.run(*span)
	if err != nil {
		log.Fatal(err)
	}
	r := result{Requests: len(l.took), Errors: l.failed, Seconds: seconds}
	slices.Sort(l.took)
	if r.Requests > 0 {
		r.P50 = l.took[r.Requests/2].Seconds() * 1e3
		r.P99 = l.took[r.Requests*99/100].Seconds() * 1e3
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}
