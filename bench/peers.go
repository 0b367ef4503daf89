package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/everflag/everflag/internal/testenv/server"
)

// peer is another flag server, built from its published module, with the flags of the reference request in its own form.
type peer struct {
	name    string
	module  string  // file of versions below bench/peers
	program string  // package of its main
	times   float64 // budget: how many requests decide answers with the CPU of one of the peer
	// prepare writes the definitions into dir and returns how to start it on a port.
	prepare func(dir string, port int) (env, args []string, err error)
	request func(addr string) string
}

var peers = []peer{
	{
		name: "ld-relay 8.11", module: "ldrelay.mod", program: "github.com/launchdarkly/ld-relay/v8", times: 5,
		prepare: func(dir string, port int) (env, args []string, err error) {
			archive := filepath.Join(dir, "ldrelay.tar")
			return []string{"FILE_DATA_SOURCE=" + archive, fmt.Sprint("PORT=", port), "LOG_LEVEL=error"}, []string{"--from-env"}, writeRelayArchive(archive, 50)
		},
		request: func(addr string) string {
			person := `{"kind":"user","key":"` + distinctID + `","plan":"pro","age":42,"email":"someone@example.com","country":"DE"}`
			return fmt.Sprintf("GET /msdk/evalx/contexts/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n\r\n",
				base64.RawURLEncoding.EncodeToString([]byte(person)), addr, relayKey)
		},
	},
	{
		name: "GO Feature Flag 1.44", module: "goff.mod", program: "github.com/thomaspoignant/go-feature-flag/cmd/relayproxy", times: 15,
		prepare: func(dir string, port int) (env, args []string, err error) {
			flags, config := filepath.Join(dir, "goff-flags.yaml"), filepath.Join(dir, "goff.yaml")
			text := fmt.Sprintf("listen: %d\nhideBanner: true\nlogLevel: error\nretrievers:\n  - kind: file\n    path: %s\n", port, flags)
			return nil, []string{"--config", config}, errors.Join(os.WriteFile(flags, []byte(proxyFlags(50)), 0o600), os.WriteFile(config, []byte(text), 0o600))
		},
		request: func(addr string) string {
			body := `{"context":{"targetingKey":"` + distinctID + `","plan":"pro","age":42,"email":"someone@example.com","country":"DE"}}`
			return fmt.Sprintf("POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, len(body), body)
		},
	},
}

// peersSection measures other flag servers beside decide: each with 50 flags like those of the reference request, in its own form and protocol.
func peersSection(ctx context.Context, h *harness) error {
	c, err := h.fill(ctx, only(teamRows(1, referenceToken, 50, false)))
	if err != nil {
		return err
	}
	ours := contestant{name: "decide"}
	if ours.process, ours.addr, err = h.decide(ctx, c.redis.URL(0)); err != nil {
		return err
	}
	reference, err := h.newRequest("reference", referenceToken)
	if err != nil {
		return err
	}
	reference.script = "" // the same generator for all
	h.report.table("50 flags", "req/s", "CPU µs/request", "p99 ms", "answer bytes", "ratio of req/s", "ratio of CPU")
	for _, p := range peers {
		theirs, r, err := h.startPeer(ctx, p)
		if err != nil {
			h.report.note("%s was not measured: %v", p.name, err)
			continue
		}
		size, err := answerSize(ctx, theirs.addr, p)
		if err != nil {
			return err
		}
		ours.rate, ours.cpu, ours.p99 = nil, nil, nil
		err = h.turns(func() error { return ours.round(ctx, h, reference) }, func() error { return theirs.round(ctx, h, r) })
		if err := errors.Join(err, theirs.process.stop()); err != nil {
			return err
		}
		ratio := theirs.cpu.ratio(ours.cpu)
		h.report.row("decide beside "+p.name, ours.rate, ours.cpu, ours.p99, "", ours.rate.ratio(theirs.rate), ratio)
		h.report.row(p.name, theirs.rate, theirs.cpu, theirs.p99, size, "", "")
		h.report.atLeast("vs "+p.name+", 50 flags, each on its own format", ratio, p.times, "×")
	}
	h.report.note("All are driven by bench/load, which limits decide and not the others: the budgets are held against the ratio of CPU, which is that of req/s on a free core.")
	h.report.note("flagd was not measured: its module does not resolve here. A server that answers PostHog's requests can be given with --peer.")
	return nil
}

// startPeer builds and starts a peer on the server's core.
func (h *harness) startPeer(ctx context.Context, p peer) (*contestant, request, error) {
	binary := h.binary(strings.TrimSuffix(p.module, ".mod"))
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("building it takes more than five minutes"))
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-modfile=bench/peers/"+p.module, "-ldflags=-s -w", "-o", binary, p.program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return nil, request{}, fmt.Errorf("building it: %w: %s", err, lines[len(lines)-1])
	}
	port, err := server.FreePort()
	if err != nil {
		return nil, request{}, err
	}
	env, args, err := p.prepare(h.dir, port)
	if err != nil {
		return nil, request{}, err
	}
	c := &contestant{name: p.name, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	if c.process, err = h.start(serverCPU, append(env, "GOMAXPROCS=1"), append([]string{binary}, args...)...); err != nil {
		return nil, request{}, err
	}
	r := request{raw: filepath.Join(h.dir, filepath.Base(binary)+".http")}
	if err := os.WriteFile(r.raw, []byte(p.request(c.addr)), 0o600); err != nil {
		return nil, request{}, err
	}
	return c, r, pollStatus(ctx, 20*time.Second, p.name+" to answer", func() (bool, error) {
		size, err := answerSize(ctx, c.addr, p)
		return err == nil && size > 1000, nil
	})
}

// answerSize asks once and returns the size of the answer, which must have all flags.
func answerSize(ctx context.Context, addr string, p peer) (int, error) {
	head, body, _ := strings.Cut(p.request(addr), "\r\n\r\n")
	first, fields, _ := strings.Cut(head, "\r\n")
	parts := strings.Fields(first)
	at := url.URL{Scheme: "http", Host: addr, Path: parts[1]}
	q, err := http.NewRequestWithContext(ctx, parts[0], at.String(), strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(fields, "\r\n") {
		if name, value, _ := strings.Cut(line, ": "); name == "Authorization" || name == "Content-Type" {
			q.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return wholeAnswer(response, 50)
}
