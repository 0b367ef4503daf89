package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/store"
	"github.com/everflag/everflag/internal/command"
)

// evalSettings are those of the command that explains.
type evalSettings struct {
	Token      string `arg:"" help:"Project token, phc_…"`
	DistinctID string `arg:"" optional:"" help:"The user. May be left out if --request has it."`
	Properties string `placeholder:"JSON" help:"Person properties, a JSON object."`
	Request    string `placeholder:"FILE" help:"Body of a request to /flags, a JSON object; - reads it from standard input."`
	Flag       string `placeholder:"KEY" help:"Only this flag."`
	JSON       bool   `name:"json" help:"Print JSON."`
}

// eval prints what a user gets and why.
func (s *settings) eval(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	body, err := s.Eval.body(stdin)
	if err != nil {
		return err
	}
	client, err := s.redisClient()
	if err != nil {
		return err
	}
	if client != nil {
		defer func() { _ = client.Close() }() // it was only read
	}
	explanation, err := s.explain(ctx, client, body)
	if err != nil {
		return err
	}
	if s.Eval.Flag != "" {
		kept := explanation.Flags[:0]
		for _, f := range explanation.Flags {
			if f.Key == s.Eval.Flag {
				kept = append(kept, f)
			}
		}
		if explanation.Flags = kept; len(kept) == 0 {
			return fmt.Errorf("team %d has no flag with the key %q", explanation.Team, s.Eval.Flag)
		}
	}
	if s.Eval.JSON {
		return command.PrintJSON(stdout, explanation)
	}
	return explanation.writeText(stdout, time.Now())
}

// explain loads the definitions, evaluates and says where they came from.
func (s *settings) explain(ctx context.Context, client redis.UniversalClient, body []byte) (*explained, error) {
	cfg, err := s.storeConfig(client, zap.NewNop())
	if err != nil {
		return nil, err
	}
	if cfg.Client != nil {
		cfg.SnapshotFile = "" // it belongs to the process that serves
	}
	definitions := store.New(cfg)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- definitions.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	if err := waitReady(ctx, definitions); err != nil {
		return nil, err
	}
	program, lookup := definitions.Program(s.Eval.Token)
	switch lookup {
	case decide.Found:
		explanation, err := decide.Explain(program, body, time.Now())
		return &explained{explanation, provenanceOf(definitions.Status())}, err
	case decide.Absent:
		return nil, fmt.Errorf("no team has the token %q: decide answers 401", s.Eval.Token)
	default:
		return nil, fmt.Errorf("no team with the token %q is loaded, and the cache is not known to be complete and fresh: decide answers 503", s.Eval.Token)
	}
}

// definitionsTimeout bounds how long eval waits for definitions.
const definitionsTimeout = 10 * time.Second

// settleTimeout is for a cache without a position, which was never filled exactly.
const settleTimeout = time.Second

// waitReady waits until the store has something to serve, and then for the look at Redis that tells which position that is and whether an absence is certain.
func waitReady(ctx context.Context, definitions *store.Store) error {
	ctx, cancel := context.WithTimeoutCause(ctx, definitionsTimeout,
		fmt.Errorf("no definitions within %s: is --redis-url right, and does the replicator run?", definitionsTimeout))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var settled time.Time
	for {
		switch position := definitions.Position(); {
		case !position.Ready:
		case settled.IsZero():
			settled = time.Now().Add(settleTimeout)
		case position.Checkpoint != "" || time.Now().After(settled):
			return nil
		}
		select {
		case <-ctx.Done():
			if problem := definitions.Status().Error; problem != "" {
				return fmt.Errorf("%w (%s)", context.Cause(ctx), problem)
			}
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// body joins file, user and properties to the body of a request.
func (o *evalSettings) body(stdin io.Reader) ([]byte, error) {
	request := map[string]json.RawMessage{}
	if o.Request != "" {
		text, err := readFile(o.Request, stdin)
		if err != nil {
			return nil, command.BadSettingf("--request", "%w", err)
		}
		if err := json.Unmarshal(text, &request); err != nil {
			return nil, command.BadSettingf("--request", "want a JSON object: %w", err)
		}
	}
	if o.DistinctID != "" {
		request["distinct_id"], _ = json.Marshal(o.DistinctID) // a string always encodes
	}
	if o.Properties != "" {
		if !json.Valid([]byte(o.Properties)) || !bytes.HasPrefix(bytes.TrimSpace([]byte(o.Properties)), []byte("{")) {
			return nil, command.BadSettingf("--properties", "want a JSON object like {\"plan\":\"free\"}")
		}
		request["person_properties"] = json.RawMessage(o.Properties)
	}
	if request["distinct_id"] == nil {
		return nil, command.BadSettings{Err: errors.New("name a user, as the second argument or in --request")}
	}
	return json.Marshal(request)
}

func readFile(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(path)
}
