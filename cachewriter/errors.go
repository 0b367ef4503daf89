package cachewriter

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/change"
)

// Error is an error of Redis, with what it asks for.
type Error struct {
	Step  string // what was being done, for people
	Class Class
	Err   error
}

// Class says what an error of Redis means to whoever handles it.
type Class string

// The classes. Those that waiting cannot mend are permanent at start; at run time they alert, and are retried like the others, since someone may put
// right what is wrong.
const (
	ClassUnreachable Class = "unreachable" // network, time-out, closed connection
	ClassUnready     Class = "unready"     // loading, failing over, resharding, a replica
	ClassFull        Class = "full"        // out of memory or unable to persist: an operator must look
	ClassRefused     Class = "refused"     // password, ACL, database number, certificate, unknown command: permanent
	ClassForeign     Class = "foreign"     // a key of ours has another type: permanent
	ClassOther       Class = "other"       // an error that this package does not know: permanent
)

// classes are all of them.
var classes = []Class{ClassUnreachable, ClassUnready, ClassFull, ClassRefused, ClassForeign, ClassOther}

func (e *Error) Error() string {
	return e.Step + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error {
	return e.Err
}

// Permanent reports whether waiting cannot mend it.
func (e *Error) Permanent() bool {
	return e.Class == ClassRefused || e.Class == ClassForeign || e.Class == ClassOther
}

// prefixes classifies by the first word of a Redis error.
var prefixes = map[string]Class{
	"LOADING": ClassUnready, "READONLY": ClassUnready, "MASTERDOWN": ClassUnready, "CLUSTERDOWN": ClassUnready, "TRYAGAIN": ClassUnready,
	"MOVED": ClassUnready, "ASK": ClassUnready, "BUSY": ClassUnready, "NOREPLICAS": ClassUnready, "NOSCRIPT": ClassUnready, "UNKILLABLE": ClassUnready,
	"NOGOODSLAVE": ClassUnready, "FAILOVER": ClassUnready, "INPROG": ClassUnready, "EXECABORT": ClassUnready,
	"OOM": ClassFull, "MISCONF": ClassFull,
	"NOAUTH": ClassRefused, "WRONGPASS": ClassRefused, "NOPERM": ClassRefused, "DENIED": ClassRefused, "CROSSSLOT": ClassRefused, "NOPROTO": ClassRefused,
	"WRONGTYPE": ClassForeign,
}

// phrases classifies errors that carry the generic prefix ERR, and those that a script wraps.
var phrases = []struct {
	text  string
	class Class
}{
	{"-READONLY ", ClassUnready}, // Redis 6 wraps errors of commands in scripts
	{"-LOADING ", ClassUnready},
	{"-OOM ", ClassFull},
	{"command not allowed when used memory", ClassFull},
	{"-MISCONF ", ClassFull},
	{"-NOREPLICAS ", ClassUnready},
	{"-WRONGTYPE ", ClassForeign},
	{"-NOPERM ", ClassRefused},
	{"max number of clients reached", ClassUnready},
	{"invalid password", ClassRefused},
	{"invalid username-password", ClassRefused},
	{"without any password configured", ClassRefused},
	{"DB index is out of range", ClassRefused},
	{"SELECT is not allowed in cluster mode", ClassRefused},
	{"unknown command", ClassRefused},
	{"can't run this command or subcommand", ClassRefused},
	{"no permissions", ClassRefused},
}

// classify is the one place that judges errors of Redis, and counts them. ErrFenced and errors of the caller's own context pass as they are.
func (w *Writer) classify(ctx context.Context, step string, err error) error {
	if err == nil || errors.Is(err, change.ErrFenced) {
		return err
	}
	if _, done := errors.AsType[*Error](err); done {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errTimeout) {
		return cause
	}
	class := classOf(err)
	w.metrics.errors.WithLabelValues(string(class)).Inc()
	return &Error{Step: step, Class: class, Err: err}
}

func classOf(err error) Class {
	if reply, ok := errors.AsType[redis.Error](err); ok {
		text := reply.Error()
		first, _, _ := strings.Cut(text, " ")
		if class, known := prefixes[strings.TrimPrefix(first, "-")]; known {
			return class
		}
		for _, phrase := range phrases {
			if strings.Contains(text, phrase.text) {
				return phrase.class
			}
		}
		return ClassOther
	}
	if isCertificate(err) {
		return ClassRefused
	}
	return ClassUnreachable
}

func isCertificate(err error) bool {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, hostname := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	return unknown || hostname || invalid
}
