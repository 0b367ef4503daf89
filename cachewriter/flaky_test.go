package cachewriter

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// flaky makes commands fail by plan: before they are sent, or after they took effect.
type flaky struct {
	plan []failure
}

type failure int

const (
	works failure = iota
	lost
	persisted
)

var errCut = errors.New("connection cut by the test")

func (f *flaky) next() (now failure) {
	if len(f.plan) > 0 {
		now, f.plan = f.plan[0], f.plan[1:]
	}
	return now
}

func (f *flaky) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *flaky) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return f.process(func() error { return next(ctx, cmd) }, cmd)
	}
}

func (f *flaky) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return f.process(func() error { return next(ctx, cmds) }, cmds...)
	}
}

func (f *flaky) process(run func() error, cmds ...redis.Cmder) error {
	now := f.next()
	var err error
	if now != lost {
		err = run()
	}
	if now == works {
		return err
	}
	for _, cmd := range cmds {
		cmd.SetErr(errCut)
	}
	return errCut
}
