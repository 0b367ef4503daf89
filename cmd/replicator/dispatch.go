package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/logging"
	"github.com/everflag/everflag/replication"
)

// dispatch runs the chosen command.
func (s *settings) dispatch(ctx context.Context, name string, stdout, stderr io.Writer) error {
	switch name {
	case "version":
		_, err := fmt.Fprintln(stdout, "replicator", command.Version(version))
		return err
	case "setup":
		return s.setup(ctx, stdout, stderr)
	case "teardown":
		config, log, err := s.offline(stderr)
		if err != nil {
			return err
		}
		return replication.Teardown(ctx, config, log)
	case "check":
		return s.check(ctx, stdout)
	case "verify":
		return s.verify(ctx, stdout, stderr)
	case "rebuild":
		return s.rebuild(ctx, stdout, stderr)
	case "status":
		return s.showStatus(ctx, stdout)
	default:
		return s.replicate(ctx, stderr)
	}
}

// offline are the settings and the logger of a command that talks to Postgres itself.
func (s *settings) offline(stderr io.Writer) (replication.Config, *zap.Logger, error) {
	log, _, err := logging.New(stderr, s.LogLevel, s.LogFormat)
	if err != nil {
		return replication.Config{}, nil, command.BadSettingf("--log-level", "%w", err)
	}
	config, err := s.replication()
	return config, log, err
}

func (s *settings) setup(ctx context.Context, stdout, stderr io.Writer) error {
	config, log, err := s.offline(stderr)
	if err != nil {
		return err
	}
	if !s.Setup.PrintSQL {
		return replication.Setup(ctx, config, log)
	}
	sql, err := replication.SetupSQL(ctx, config, s.Setup.Role)
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, sql)
	return err
}

// check prints what both sides find. Warnings alone are no failure: a server with default settings has some.
func (s *settings) check(ctx context.Context, stdout io.Writer) error {
	config, err := s.replication()
	if err != nil {
		return err
	}
	client, err := s.redisClient()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // it was only read
	findings, err := replication.Check(ctx, config)
	if err != nil {
		findings = append(findings, replication.Finding{Object: "--postgres-url", Problem: err.Error(), Remedy: "see docs/operations.md", Fatal: true})
	}
	source, err := replication.Identify(ctx, config)
	if err != nil {
		source = change.Source{} // the findings tell why
	}
	ofCache, err := cachewriter.New(s.writer(client, zap.NewNop())).Check(ctx, source)
	if err != nil {
		ofCache = append(ofCache, cachewriter.Finding{What: err.Error(), Remedy: "see docs/operations.md", Fatal: true})
	}
	for _, f := range ofCache {
		findings = append(findings, replication.Finding{Object: "Redis", Problem: f.What, Remedy: f.Remedy, Fatal: f.Fatal})
	}
	if err := printFindings(stdout, findings, s.Check.JSON); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Fatal {
			return command.BadSettings{Err: errors.New("replication cannot work like this")}
		}
	}
	return nil
}

func printFindings(stdout io.Writer, findings []replication.Finding, asJSON bool) error {
	if asJSON {
		if findings == nil {
			findings = []replication.Finding{}
		}
		return printJSON(stdout, findings)
	}
	if len(findings) == 0 {
		_, err := fmt.Fprintln(stdout, "nothing found that would fail or hurt")
		return err
	}
	for _, f := range findings {
		if _, err := fmt.Fprintln(stdout, logging.Redact(f.String())); err != nil {
			return err
		}
	}
	return nil
}

// verify compares without leadership; only a repair needs the leader.
func (s *settings) verify(ctx context.Context, stdout, stderr io.Writer) error {
	var report replication.VerifyReport
	var err error
	if s.Verify.Repair {
		err = s.order(ctx, "/verify?repair=true", &report, stderr, func(ctx context.Context, r *replication.Replicator) (any, error) { return r.Verify(ctx, true) })
	} else {
		report, err = s.compare(ctx, stderr)
	}
	if err != nil {
		return err
	}
	if s.Verify.JSON {
		err = printJSON(stdout, report)
	} else {
		err = printVerify(stdout, report)
	}
	if err == nil && report.Drift > 0 && !report.Repaired {
		return command.ErrDrift
	}
	return err
}

func (s *settings) compare(ctx context.Context, stderr io.Writer) (replication.VerifyReport, error) {
	config, log, err := s.offline(stderr)
	if err != nil {
		return replication.VerifyReport{}, err
	}
	client, err := s.redisClient()
	if err != nil {
		return replication.VerifyReport{}, err
	}
	defer func() { _ = client.Close() }() // it was only read
	return replication.Verify(ctx, config, cachewriter.New(s.writer(client, log)), log)
}

func printVerify(stdout io.Writer, r replication.VerifyReport) error {
	var text strings.Builder
	fmt.Fprintf(&text, "compared %d teams with %d rows, looking %d times: ", r.Teams, r.Rows, r.Looks)
	switch {
	case r.Error != "":
		fmt.Fprintf(&text, "not completed: %s\n", r.Error)
	case r.Drift == 0:
		text.WriteString("no drift\n")
	default:
		fmt.Fprintf(&text, "%d records differ\n", r.Drift)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(&text, "  team %d, %s %s: %s\n", d.Team, d.Entity, d.Key, d.Detail)
	}
	if r.Repaired {
		text.WriteString("repaired\n")
	}
	_, err := io.WriteString(stdout, text.String())
	return err
}

func (s *settings) rebuild(ctx context.Context, stdout, stderr io.Writer) error {
	var report replication.ReconcileReport
	err := s.order(ctx, "/rebuild", &report, stderr, func(ctx context.Context, r *replication.Replicator) (any, error) { return r.Rebuild(ctx) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "rebuilt: %d teams, %d rows; %d teams written, %d removed, in %s\n",
		report.Teams, report.Rows, report.TeamsWritten, report.TeamsGone, report.Took.Round(1e6))
	return err
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
