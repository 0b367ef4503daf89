// Command decide answers PostHog's flag API from memory that follows the cache in Redis. It guarantees to go on answering with Postgres, the replicator,
// Redis or all of them down, also when it was started while they were.
package main

import (
	"context"
	"io"
	"os"

	"github.com/everflag/everflag/internal/command"
)

// version is set at link time.
var version = "dev"

func main() {
	const what = "Answers PostHog's flag API from a cache in Redis, through any outage."
	os.Exit(command.Run(context.Background(), "decide", what, new(settings), os.Args[1:], os.Stdout, os.Stderr))
}

// Dispatch runs the chosen command.
func (s *settings) Dispatch(ctx context.Context, name string, stdout, stderr io.Writer) error {
	switch name {
	case "version":
		return s.Version.Print(stdout, command.BuildOf("decide", version))
	case "completion":
		return s.Completion.Print(stdout, "decide")
	case "status":
		return s.showStatus(ctx, stdout)
	case "eval":
		return s.eval(ctx, os.Stdin, stdout)
	default:
		return s.serve(ctx, stderr)
	}
}
