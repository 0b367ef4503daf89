package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/everflag/everflag/cachewriter"
	"github.com/everflag/everflag/internal/admin/pages"
	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/logging"
	"github.com/everflag/everflag/replication"
)

// Dispatch runs the chosen command.
func (s *settings) Dispatch(ctx context.Context, name string, stdout, stderr io.Writer) error {
	switch name {
	case "version":
		return s.Version.Print(stdout, command.BuildOf("replicator", version))
	case "completion":
		return s.Completion.Print(stdout, "replicator")
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

// unreachable is what to do about a server that does not answer.
const unreachable = "look whether the address is right, the server runs and nothing is in between; docs/operations.md says what it needs"

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
		findings = append(findings, replication.Finding{Object: "--postgres-url", Problem: err.Error(), Remedy: unreachable, Fatal: true})
	}
	source, err := replication.Identify(ctx, config)
	if err != nil {
		source = change.Source{} // the findings tell why
	}
	ofCache, err := cachewriter.New(s.writer(client, zap.NewNop())).Check(ctx, source)
	if err != nil {
		findings = append(findings, replication.Finding{Object: "--redis-url", Problem: err.Error(), Remedy: unreachable, Fatal: true})
	}
	for _, f := range ofCache {
		findings = append(findings, replication.Finding{Object: "Redis", Problem: f.What, Remedy: f.Remedy, Fatal: f.Fatal})
	}
	for i, f := range findings {
		findings[i].Problem, findings[i].Remedy = logging.Redact(f.Problem), logging.Redact(f.Remedy)
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
		return command.PrintJSON(stdout, findings)
	}
	if len(findings) == 0 {
		_, err := fmt.Fprintln(stdout, "nothing found that would fail or hurt")
		return err
	}
	sheet := command.NewSheet(stdout)
	for _, f := range findings {
		mood, level := command.Warn, "warning"
		if f.Fatal {
			mood, level = command.Bad, "error"
		}
		sheet.Line(mood, level, "%s", f.Object+": "+f.Problem)
		sheet.Line(command.Plain, "", "%s", f.Remedy)
	}
	return sheet.Print()
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
		err = command.PrintJSON(stdout, report)
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
	fmt.Fprintf(&text, "compared %s with %s, in %s: ", pages.Count(r.Teams, "team"), pages.Count(r.Rows, "row"), pages.Count(r.Looks, "look"))
	switch {
	case r.Error != "":
		fmt.Fprintf(&text, "not completed: %s\n", r.Error)
	case r.Drift == 0:
		text.WriteString("no drift\n")
	default:
		fmt.Fprintf(&text, "drift in %s\n", pages.Count(r.Drift, "record"))
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
	if s.Rebuild.JSON {
		return command.PrintJSON(stdout, report)
	}
	_, err = fmt.Fprintf(stdout, "rebuilt: %d teams, %d rows; %d teams written, %d removed, in %s\n",
		report.Teams, report.Rows, report.TeamsWritten, report.TeamsGone, report.Took.Round(time.Millisecond))
	return err
}
