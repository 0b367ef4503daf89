package decide

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
)

// BenchmarkServe is a request over a loopback connection. cpu-µs/op is the time on a core, which neighbours do not change; a least client is in it.
func BenchmarkServe(b *testing.B) {
	for _, flags := range []int{1, 50, 350} {
		b.Run(fmt.Sprintf("flags=%d", flags), func(b *testing.B) {
			h, _ := newTestHandler(b, Config{}, referenceFlags(flags)...)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- Serve(b.Context(), NewServer(ServerConfig{}, h, h.logger), listener, Stop{}) }()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			text := fmt.Appendf(nil, "POST /flags/?v=2 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(referenceBody), referenceBody)
			answer := bufio.NewReader(conn)
			ask := func() int {
				if _, err := conn.Write(text); err != nil {
					b.Fatal(err)
				}
				response, err := http.ReadResponse(answer, nil)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, response.Body)
				if err != nil || response.StatusCode != http.StatusOK {
					b.Fatal(response.Status, err)
				}
				return int(n)
			}
			size := ask()
			before := cpuTime(b)
			n := 0
			for b.Loop() {
				ask()
				n++
			}
			b.ReportMetric((cpuTime(b)-before)/float64(n), "cpu-µs/op")
			b.ReportMetric(float64(size), "answer-bytes")
		})
	}
}

func cpuTime(b *testing.B) (micros float64) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e3
}
