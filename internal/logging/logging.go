// Package logging guarantees that both programs log alike and never a secret: JSON lines, or a readable form on a terminal, with a level that can be
// changed at run time, and every message and string field passed through Redact.
package logging

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

// The formats of the log, as --log-format has them.
const (
	formatAuto    = "auto" // console on a terminal, else JSON
	formatJSON    = "json"
	formatConsole = "console"
)

// New returns a logger that writes to out, and its level, which is an http.Handler for reading and changing it at run time.
func New(out io.Writer, level, format string) (*zap.Logger, zap.AtomicLevel, error) {
	atomic, err := zap.ParseAtomicLevel(strings.ToLower(level))
	if err != nil {
		return nil, atomic, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	core := zapcore.NewCore(encoder(out, format), zapcore.Lock(zapcore.AddSync(out)), atomic)
	return zap.New(redactingCore{core}), atomic, nil
}

func encoder(out io.Writer, format string) zapcore.Encoder {
	config := zap.NewProductionEncoderConfig()
	config.TimeKey, config.MessageKey = "time", "msg"
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	if format == formatJSON || format == formatAuto && !IsTerminal(out) {
		return zapcore.NewJSONEncoder(config)
	}
	config.EncodeTime = zapcore.TimeEncoderOfLayout(time.TimeOnly + ".000")
	config.EncodeLevel = zapcore.CapitalLevelEncoder
	if IsTerminal(out) && os.Getenv("NO_COLOR") == "" {
		config.EncodeLevel = zapcore.CapitalColorLevelEncoder
	}
	return zapcore.NewConsoleEncoder(config)
}

// IsTerminal says whether a person reads out.
func IsTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
