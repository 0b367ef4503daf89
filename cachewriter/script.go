package cachewriter

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
)

var (
	//go:embed lua/guard.lua
	guardSource string
	//go:embed lua/acquire.lua
	acquireSource string
	//go:embed lua/apply.lua
	applySource string
	//go:embed lua/note.lua
	noteSource string
	//go:embed lua/finish.lua
	finishSource string
	//go:embed lua/stage.lua
	stageSource string
	//go:embed lua/fields.lua
	fieldsSource string

	acquireScript = redis.NewScript(guardSource + acquireSource)
	applyScript   = redis.NewScript(guardSource + applySource)
	noteScript    = redis.NewScript(guardSource + noteSource)
	finishScript  = redis.NewScript(guardSource + finishSource)
	stageScript   = redis.NewScript(stageSource)
	fieldsScript  = redis.NewScript(fieldsSource)
)

// errTimeout is the cause of the deadlines that this package sets, which are errors of Redis and not of the caller.
var errTimeout = errors.New("no answer in time")

// within gives a step its deadline, which the error names.
func (w *Writer) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, w.config.Timeout, fmt.Errorf("%w (%v)", errTimeout, w.config.Timeout))
}

// call runs a script and, if asked for, waits for replicas. The reply is a list: a word, then more. "fenced" becomes ErrFenced.
func (w *Writer) call(ctx context.Context, step string, script *redis.Script, keys []string, args []any) ([]any, error) {
	ctx, cancel := w.within(ctx)
	defer cancel()
	start := time.Now()
	reply, err := w.run(ctx, script, keys, args)
	w.metrics.observe(step, time.Since(start))
	if err != nil {
		return nil, w.classify(ctx, step, err)
	}
	list, ok := reply.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("%s: the script answered %T", step, reply)
	}
	if list[0] == "fenced" {
		w.owner, w.inflight = "", nil
		w.metrics.fenced()
		return nil, fmt.Errorf("%s: %w", step, change.ErrFenced)
	}
	return list, nil
}

// run sends the script by its digest, and whole if the server does not know it (after a restart, a failover or SCRIPT FLUSH).
func (w *Writer) run(ctx context.Context, script *redis.Script, keys []string, args []any) (any, error) {
	if w.config.WaitReplicas == 0 {
		return script.Run(ctx, w.config.Client, keys, args...).Result()
	}
	node, err := w.node(ctx, keys[0])
	if err != nil {
		return nil, err
	}
	reply, err := runAndWait(ctx, node, w.config, script.EvalSha, keys, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		reply, err = runAndWait(ctx, node, w.config, script.Eval, keys, args)
	}
	return reply, err
}

// node returns the client of the one server that holds the keys: WAIT counts the writes of its own connection.
func (w *Writer) node(ctx context.Context, key string) (redis.UniversalClient, error) {
	if cluster, ok := w.config.Client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return w.config.Client, nil
}

// evaluate is the method of a script that sends it: by its digest, or whole.
type evaluate func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

func runAndWait(ctx context.Context, node redis.UniversalClient, config Config, eval evaluate, keys []string, args []any) (any, error) {
	pipe := node.Pipeline()
	reply := eval(ctx, pipe, keys, args...)
	replicas := pipe.Do(ctx, "wait", config.WaitReplicas, (config.Timeout / 2).Milliseconds())
	_, err := pipe.Exec(ctx)
	if reply.Err() != nil {
		return nil, reply.Err()
	}
	if err != nil {
		return nil, err
	}
	if n, err := replicas.Int(); err != nil {
		return nil, err
	} else if n < config.WaitReplicas {
		return nil, notReplicatedError{n, config.WaitReplicas}
	}
	return reply.Val(), nil
}

// notReplicatedError is an error of Redis in all but name: the write is done, and too few replicas have it.
type notReplicatedError struct{ have, want int }

func (e notReplicatedError) Error() string {
	return fmt.Sprintf("NOREPLICAS %d of %d replicas have confirmed the write", e.have, e.want)
}

func (e notReplicatedError) RedisError() {}
