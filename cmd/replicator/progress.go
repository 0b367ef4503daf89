package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/everflag/everflag/internal/logging"
	"github.com/everflag/everflag/replication"
)

// progress draws a bar for a reconcile, on a terminal only: the log tells the rest.
type progress struct {
	out io.Writer

	mu    sync.Mutex
	drawn bool // the line is not empty
	ended bool
}

func newProgress(out io.Writer) *progress {
	return &progress{out: out, ended: !logging.IsTerminal(out)}
}

const barWidth = 30

// follow redraws the bar until the context ends.
func (p *progress) follow(ctx context.Context, status func() (replication.Status, error)) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now, err := status(); err == nil && now.Reconcile != nil {
			p.draw(now.Reconcile)
		}
	}
}

func (p *progress) draw(r *replication.ReconcileStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.drawn = true
	fmt.Fprintf(p.out, "\r\x1b[K%s", bar(r))
}

// bar is the line for a reconcile: what it waits for, or how far it has come.
func bar(r *replication.ReconcileStatus) string {
	if r.Waiting != "" {
		return "waiting for " + r.Waiting
	}
	if r.RowsTotal == 0 {
		return fmt.Sprintf("%s: %d teams, %d rows", r.Stage, r.Teams, r.Rows)
	}
	full := int(min(r.Rows*barWidth/r.RowsTotal, barWidth))
	return fmt.Sprintf("[%s%s] %d of about %d rows, %d teams", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), r.Rows, r.RowsTotal, r.Teams)
}

// stop removes the bar.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	p.ended = true
}
