// Command load sends one request over and over on keep-alive connections and prints what came back as JSON. With a rate it holds that rate whatever the
// server does and measures each request from the moment it was due, so that a pause of the server is not left out of its latency.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
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
	addr := flag.String("addr", "", "host:port of the server")
	file := flag.String("request", "", "file with the whole request as it goes over the wire")
	connections := flag.Int("connections", 16, "connections")
	span := flag.Duration("for", time.Second, "how long")
	rate := flag.Float64("rate", 0, "requests per second of all connections together; 0 = as many as go")
	flag.Parse()
	request, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	var all sync.WaitGroup
	took := make([][]time.Duration, *connections)
	failed := make([]int, *connections)
	start := time.Now()
	for i := range *connections {
		all.Go(func() {
			w := worker{addr: *addr, request: request, until: start.Add(*span)}
			if *rate > 0 {
				w.every = time.Duration(float64(*connections) / *rate * float64(time.Second))
				w.due = start.Add(w.every * time.Duration(i) / time.Duration(*connections))
			}
			if err := w.run(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				w.failed++
			}
			took[i], failed[i] = w.took, w.failed
		})
	}
	all.Wait()
	r := result{Seconds: time.Since(start).Seconds()}
	sorted := slices.Sorted(slices.Values(slices.Concat(took...)))
	r.Requests = len(sorted)
	for _, n := range failed {
		r.Errors += n
	}
	if r.Requests > 0 {
		r.P50 = sorted[r.Requests/2].Seconds() * 1e3
		r.P99 = sorted[r.Requests*99/100].Seconds() * 1e3
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

// worker is one connection.
type worker struct {
	addr    string
	request []byte
	until   time.Time
	every   time.Duration // 0: no rate is held
	due     time.Time     // of the next request, if a rate is held

	took   []time.Duration
	failed int
}

func (w *worker) run() error {
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReaderSize(conn, 64<<10)
	for {
		from := time.Now()
		if w.every > 0 {
			time.Sleep(time.Until(w.due))
			from = w.due
			w.due = w.due.Add(w.every)
		}
		if from.After(w.until) {
			return nil
		}
		if _, err := conn.Write(w.request); err != nil {
			return err
		}
		ok, err := answer(answers)
		if err != nil {
			return err
		}
		w.took = append(w.took, time.Since(from))
		if !ok {
			w.failed++
		}
	}
}

// answer reads one answer, which has a Content-Length; ok is true for a 200.
func answer(r *bufio.Reader) (ok bool, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			ok = bytes.HasPrefix(line, []byte("HTTP/1.1 200"))
		} else if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return false, err
			}
		} else if len(line) == 0 {
			break
		}
	}
	_, err = io.CopyN(io.Discard, r, int64(length))
	return ok, err
}
