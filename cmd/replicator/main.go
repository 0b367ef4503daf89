// Command replicator keeps a cache in Redis equal to PostHog's flag tables by following the write-ahead log of Postgres.
package main

import (
	"context"
	"os"

	"github.com/everflag/everflag/internal/command"
)

// version is set at link time.
var version = "dev"

func main() {
	const what = "Keeps a cache in Redis equal to PostHog's flag tables in Postgres."
	os.Exit(command.Run(context.Background(), "replicator", what, new(settings), os.Args[1:], os.Stdout, os.Stderr))
}
