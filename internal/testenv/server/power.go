package server

import (
	"context"
	"syscall"
)

// machine is where a server runs: a process or a container.
type machine interface {
	start(ctx context.Context) error // launched, not yet ready
	signal(ctx context.Context, s syscall.Signal) error
	wait(ctx context.Context) error // until it has ended
	ended() bool
	kill(ctx context.Context) error
	freeze(ctx context.Context) error
	thaw(ctx context.Context) error
	remove(ctx context.Context) error
	log(ctx context.Context) string
}

// power is what can be done to every server.
type power struct{ machine machine }

// Kill ends every process of the server with SIGKILL, as the kernel does when memory runs out.
func (p *power) Kill(ctx context.Context) error { return p.machine.kill(ctx) }

// Freeze stops every process of the server: connections stay open, the kernel still accepts new ones, and nothing answers.
func (p *power) Freeze(ctx context.Context) error { return p.machine.freeze(ctx) }

// Thaw undoes Freeze.
func (p *power) Thaw(ctx context.Context) error { return p.machine.thaw(ctx) }

// Log returns what the server has logged.
func (p *power) Log(ctx context.Context) string { return p.machine.log(ctx) }
