package testenv

import (
	"context"
	"testing"
)

// ownServer is a Postgres or a Redis of package server.
type ownServer interface {
	Start(ctx context.Context) error
	Kill(ctx context.Context) error
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
	Close(ctx context.Context) error
	Log(ctx context.Context) string
}

// own starts a server for one test, shows its log if the test fails, and removes it. What is its name in messages.
func own[S ownServer](t testing.TB, what string, start func(context.Context) (S, error)) (S, power) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	s, err := start(ctx)
	require(t, err)
	p := power{what, s}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", what, p.Log(t))
		}
		step(t, "removing "+what, s.Close)
	})
	return s, p
}

// power is what a test can do to every server of its own.
type power struct {
	what string
	of   ownServer
}

// Start starts the stopped or killed server and returns when it answers.
func (p power) Start(t testing.TB) {
	t.Helper()
	step(t, "starting "+p.what, p.of.Start)
}

// Kill ends every process of the server with SIGKILL.
func (p power) Kill(t testing.TB) {
	t.Helper()
	step(t, "killing "+p.what, p.of.Kill)
}

// Freeze stops every process of the server with SIGSTOP: connections stay open and nothing answers.
func (p power) Freeze(t testing.TB) {
	t.Helper()
	step(t, "freezing "+p.what, p.of.Freeze)
}

// Thaw undoes Freeze.
func (p power) Thaw(t testing.TB) {
	t.Helper()
	step(t, "thawing "+p.what, p.of.Thaw)
}

// Log returns what the server has logged so far.
func (p power) Log(t testing.TB) (text string) {
	t.Helper()
	step(t, "reading the log of "+p.what, func(ctx context.Context) error {
		text = p.of.Log(ctx)
		return nil
	})
	return text
}
