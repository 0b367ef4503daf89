// Command parrot repeats what it is told: the program that testenv's own tests run.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	fmt.Fprintf(os.Stderr, "word=%s args=%s\n", os.Getenv("PARROT_WORD"), strings.Join(os.Args[1:], ","))
	for s := range signals {
		if s == syscall.SIGTERM {
			break
		}
		fmt.Fprintf(os.Stderr, "got %v\n", s)
	}
	fmt.Println("bye")
	os.Exit(3)
}
