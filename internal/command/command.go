// Package command guarantees that both programs read their settings, stop and exit alike: every setting is a flag and an environment variable, secrets
// can come from files, the first signal ends the program in order and the second at once, and the exit code tells why it ended.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/everflag/everflag/internal/logging"
)

// The exit codes.
const (
	exitOK          = 0 // asked to stop, or the command has done what it was asked for
	exitFailed      = 1 // permanent failure
	exitBadSettings = 2 // settings that cannot work; also findings of "check"
	exitDrift       = 3 // "verify" found drift
)

// BadSettings is an error that only other settings can mend. Its text names the setting.
type BadSettings struct{ Err error }

// Error implements error.
func (e BadSettings) Error() string { return e.Err.Error() }

// Unwrap implements the interface of package errors.
func (e BadSettings) Unwrap() error { return e.Err }

// BadSettingf returns a BadSettings for the setting that is spelled like the flag.
func BadSettingf(setting, format string, args ...any) error {
	return BadSettings{fmt.Errorf(setting+": "+format, args...)}
}

// ErrDrift is what "verify" returns after it has reported drift.
var ErrDrift = errors.New("the cache differs from the source")

// Settings are what flags and environment fill, and what runs with them.
type Settings interface {
	// Dispatch runs the command until it is done, or until the context ends, which is an order and no failure.
	Dispatch(ctx context.Context, command string, stdout, stderr io.Writer) error
}

// Run is a whole program but for the exit itself: it fills the settings, runs the chosen command, says why that failed, and returns the exit code.
func Run(ctx context.Context, name, description string, s Settings, args []string, stdout, stderr io.Writer) int {
	chosen, err := parse(name, description, s, args, stdout, stderr)
	if err == nil && chosen != nil {
		ctx, stop := withSignals(ctx)
		defer stop()
		first, _, _ := strings.Cut(chosen.Command(), " ")
		err = s.Dispatch(ctx, first, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, name+":", logging.Redact(err.Error()))
	}
	return exitCode(err)
}

// exitCode is the exit code for what the command returned.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, ErrDrift):
		return exitDrift
	}
	if _, bad := errors.AsType[BadSettings](err); bad {
		return exitBadSettings
	}
	return exitFailed
}

// errHelpShown ends parsing after --help.
var errHelpShown = errors.New("help has been shown")

// parse fills the settings struct from arguments and environment (PROGRAM_NAME for --name) and returns the chosen command. A nil command without an error
// means that help or completions were shown.
func parse(program, description string, settings any, args []string, stdout, stderr io.Writer) (chosen *kong.Context, err error) {
	defer func() {
		// kong exits after printing help; this program ends in main alone.
		if recovered := recover(); recovered != nil {
			if recovered != errHelpShown { //nolint:errorlint // because it is the very value that was thrown
				panic(recovered)
			}
			chosen, err = nil, nil
		}
	}()
	parser, err := kong.New(settings,
		kong.Name(program), kong.Description(description), kong.DefaultEnvars(strings.ToUpper(program)), kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 140}),
		kong.Resolvers(kong.ResolverFunc(secretFromFile)),
		kong.Exit(func(int) { panic(errHelpShown) }),
	)
	if err != nil {
		return nil, fmt.Errorf("describing the settings: %w", err)
	}
	if len(args) > 0 && args[0] == completeArgument {
		printCandidates(stdout, parser.Model.Node, args[1:])
		return nil, nil
	}
	chosen, err = parser.Parse(args)
	if err != nil {
		return nil, BadSettings{fmt.Errorf("%w (%s --help lists all)", err, program)}
	}
	return chosen, nil
}

// secretFromFile resolves a flag with the tag `secret` from the file that <variable>_FILE names.
func secretFromFile(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !flag.Tag.Has("secret") || len(flag.Envs) == 0 {
		return nil, nil //nolint:nilnil // because kong's contract says so: nothing to resolve
	}
	variable := flag.Envs[0] + "_FILE"
	path := os.Getenv(variable)
	if path == "" {
		return nil, nil //nolint:nilnil // as above
	}
	content, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return content, nil
}

// withSignals returns a context that ends with the first SIGINT or SIGTERM; the second ends the process at once.
func withSignals(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	released := make(chan struct{})
	go func() {
		for count := 0; ; count++ {
			select {
			case s := <-signals:
				if count > 0 {
					os.Exit(exitFailed)
				}
				cancel(fmt.Errorf("asked to stop by %s", s))
			case <-released:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(released)
		cancel(nil)
	}
}
