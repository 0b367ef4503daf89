package logging

import (
	"regexp"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

var (
	urlPassword = regexp.MustCompile(`(\b[a-z][a-z0-9+]*://[^\s:/@]*):[^\s/]*@`)
	// The values of password keys as libpq writes them, "password=x" or "password='a b'".
	keyPassword = regexp.MustCompile(`(?i)(\b(?:\w*password|\w*secret)\s*=\s*)('[^']*'|[^\s&]+)`)
	// Secret keys of PostHog: project secret keys and personal API keys.
	postHogKey = regexp.MustCompile(`\bph[sx]_[A-Za-z0-9_-]+`)
)

// Redact replaces passwords in URLs and connection strings, and secret keys, by "xxxxx".
func Redact(text string) string {
	text = urlPassword.ReplaceAllString(text, "${1}:xxxxx@")
	text = keyPassword.ReplaceAllString(text, "${1}xxxxx")
	return postHogKey.ReplaceAllString(text, "xxxxx")
}

// redactingCore applies Redact to all that may carry text from outside.
type redactingCore struct{ zapcore.Core }

// With implements zapcore.Core.
func (c redactingCore) With(fields []zapcore.Field) zapcore.Core {
	return redactingCore{c.Core.With(redactFields(fields))}
}

// Check implements zapcore.Core.
func (c redactingCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c redactingCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	entry.Message = Redact(entry.Message)
	return c.Core.Write(entry, redactFields(fields))
}

func redactFields(fields []zapcore.Field) []zapcore.Field {
	redacted := make([]zapcore.Field, len(fields))
	for i, f := range fields {
		switch f.Type {
		case zapcore.StringType:
			f.String = Redact(f.String)
		case zapcore.ErrorType:
			if err, ok := f.Interface.(error); ok {
				f = zap.String(f.Key, Redact(err.Error()))
			}
		}
		redacted[i] = f
	}
	return redacted
}
