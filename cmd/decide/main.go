// Command decide answers PostHog's flag API from memory that follows the cache in Redis. It guarantees to go on answering with Postgres, the replicator,
// Redis or all of them down, also when it was started while they were.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

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
	chosen, err := command.Parse("decide", "Answers PostHog's flag API from a cache in Redis, through any outage.", "DECIDE", &s, args, stdout, stderr)
	if err == nil && chosen != nil {
		ctx, stop := command.WithSignals(ctx)
		defer stop()
		name, _, _ := strings.Cut(chosen.Command(), " ")
		switch name {
		case "version":
			_, err = fmt.Fprintln(stdout, "decide", command.Version(version))
		case "status":
			err = s.showStatus(ctx, stdout)
		case "eval":
			err = explainCommand(ctx, s, os.Stdin, stdout)
		default:
			err = serve(ctx, s, stderr)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "decide:", logging.Redact(err.Error()))
	}
	return command.ExitCode(err)
}
