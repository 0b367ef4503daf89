// Command demo guarantees that a stranger sees the product work, on real servers, with one command and no leftovers: it starts a private Postgres and
// Redis, the replicator and two decide processes, edits a flag in SQL, takes the servers away one after the other, and shows what clients get.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	keep := flag.Bool("keep", false, "leave everything running and print the addresses")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *keep)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keep bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	s := &stage{}
	defer func() {
		err = errors.Join(err, s.close())
		if err == nil {
			fmt.Println("\nEverything stopped and removed.")
		}
	}()
	fmt.Print("everflag demo: Postgres → replicator → Redis → decide, on this machine\n\n")
	if err := s.open(ctx); err != nil {
		return err
	}
	for i, act := range []struct {
		title string
		play  func(context.Context, *stage) error
	}{
		{"Flags for two users", showFlags},
		{"A flag edited by plain SQL", editFlag},
		{"Postgres killed", killPostgres},
		{"Redis killed as well", killRedis},
		{"A decide process restarted with everything down", restartDecide},
		{"Both servers back", bringBack},
	} {
		fmt.Printf("\n%d. %s\n", i+1, act.title)
		if err := act.play(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", act.title, err)
		}
	}
	if keep {
		return s.hold()
	}
	return nil
}
