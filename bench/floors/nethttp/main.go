// Command nethttp is the floor of a flag request: it answers every request with the same bytes and headers, over net/http and with nothing else to do.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	answer := flag.String("answer", "", "file with the body")
	headers := flag.String("headers", "", "file with the headers, a line each")
	flag.Parse()
	body, err := os.ReadFile(*answer)
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(*headers)
	if err != nil {
		log.Fatal(err)
	}
	type header struct {
		name   string
		values []string
	}
	var fixed []header
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ": "); found {
			fixed = append(fixed, header{name, []string{value}})
		}
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for i := range fixed {
			h[fixed[i].name] = fixed[i].values
		}
		_, _ = w.Write(body) // a client that left needs no answer
	})
	log.Fatal(http.ListenAndServe(*addr, handler))
}
