// Command replicator keeps a cache in Redis equal to PostHog's flag tables by following the write-ahead log of Postgres.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/everflag/everflag/internal/command"
	"github.com/everflag/everflag/internal/logging"
)

// version is set at link time.
var version = "dev"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program but for the exit itself.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s settings
	chosen, err := command.Parse("replicator", "Keeps a cache in Redis equal to PostHog's flag tables in Postgres.", "REPLICATOR", &s, args, stdout, stderr)
	if err == nil && chosen != nil {
		ctx, stop := command.WithSignals(ctx)
		defer stop()
		err = s.dispatch(ctx, chosen.Command(), stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "replicator:", logging.Redact(err.Error()))
	}
	return command.ExitCode(err)
}
