package decide

import (
	"time"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

// Lookup is the result of asking for a token. "Absent" and "cannot tell" are different answers: the first is a 401, the second a 503.
type Lookup uint8

// The results of a Lookup.
const (
	Unavailable Lookup = iota // cannot tell: nothing is loaded yet, or what is loaded is not known to be complete and fresh
	Absent                    // the token certainly belongs to no team
	Found
)

// Source is where a request finds its team. Implementations do no I/O in these methods, never return a half-updated team, and are safe for concurrent
// use.
type Source interface {
	// Program returns the compiled flags of the team with the token.
	Program(token string) (*eval.Program, Lookup)

	// Records returns the records of the team with the token, as the cache holds them; the caller must not change them.
	Records(token string) (*flagcache.Team, Lookup)

	// Position says which state of the source the answers reflect.
	Position() Position
}

// Position is the state of the source that the answers reflect.
type Position struct {
	Ready      bool          // there is something to serve
	Checkpoint string        // version text of the last position known to be included; empty before the first load
	Stale      time.Duration // since the last fresh heartbeat was seen; 0 while following
}
