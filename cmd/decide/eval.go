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
	"github.com/everflag/everflag/decide/eval"
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

// explainCommand prints what a user gets and why.
func explainCommand(ctx context.Context, s settings, stdin io.Reader, stdout io.Writer) error {
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
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(explanation)
	}
	return explanation.WriteText(stdout)
}

// explain loads the definitions and evaluates.
func (s *settings) explain(ctx context.Context, client redis.UniversalClient, body []byte) (eval.Explanation, error) {
	cfg, err := s.storeConfig(client, zap.NewNop())
	if err != nil {
		return eval.Explanation{}, err
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
		return eval.Explanation{}, err
	}
	program, lookup := definitions.Program(s.Eval.Token)
	switch lookup {
	case decide.Found:
		return decide.Explain(program, body, time.Now())
	case decide.Absent:
		return eval.Explanation{}, fmt.Errorf("no team has the token %q: decide answers 401", s.Eval.Token)
	default:
		return eval.Explanation{}, fmt.Errorf("no team with the token %q is loaded, and the cache is not known to be complete and fresh: decide answers 503", s.Eval.Token)
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
