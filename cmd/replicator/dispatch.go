package main

import (
	"context"
	"fmt"
	"io"

	"github.com/everflag/everflag/internal/command"
)

// dispatch runs the chosen command.
func (s *settings) dispatch(ctx context.Context, name string, stdout, stderr io.Writer) error {
	switch name {
	case "version":
		_, err := fmt.Fprintln(stdout, "replicator", command.Version(version))
		return err
	default:
		return s.replicate(ctx, stderr)
	}
}
