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
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// The exit codes.
const (
	ExitOK          = 0 // asked to stop, or the command has done what it was asked for
	ExitFailed      = 1 // permanent failure
	ExitBadSettings = 2 // settings that cannot work; also findings of "check"
	ExitDrift       = 3 // "verify" found drift
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

// ExitCode is the exit code for what a program's run returned.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrDrift):
		return ExitDrift
	}
	if _, bad := errors.AsType[BadSettings](err); bad {
		return ExitBadSettings
	}
	return ExitFailed
}

// errHelpShown ends parsing after --help.
var errHelpShown = errors.New("help has been shown")

// Parse fills the settings struct from arguments and environment (prefix_NAME for --name) and returns the chosen command. A nil command without an error
// means that help was shown.
func Parse(name, description, envPrefix string, settings any, args []string, stdout, stderr io.Writer) (chosen *kong.Context, err error) {
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
		kong.Name(name), kong.Description(description), kong.DefaultEnvars(envPrefix), kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 140}),
		kong.Resolvers(kong.ResolverFunc(secretFromFile)),
		kong.Exit(func(int) { panic(errHelpShown) }),
	)
	if err != nil {
		return nil, fmt.Errorf("describing the settings: %w", err)
	}
	chosen, err = parser.Parse(args)
	if err != nil {
		return nil, BadSettings{err}
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
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return strings.TrimSpace(string(content)), nil
}

// WithSignals returns a context that ends with the first SIGINT or SIGTERM; the second ends the process at once.
func WithSignals(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	released := make(chan struct{})
	go func() {
		for count := 0; ; count++ {
			select {
			case s := <-signals:
				if count > 0 {
					os.Exit(ExitFailed)
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

// Version says what was built: the release, and the commit where the build knows it.
func Version(release string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	text := release + " " + info.GoVersion
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			text += " commit " + s.Value[:12]
		}
		if s.Key == "vcs.modified" && s.Value == "true" {
			text += " (modified)"
		}
	}
	return text
}
