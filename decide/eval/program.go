package eval

import "time"

// Rules selects the PostHog generation whose rules decide where they differ.
type Rules uint8

// The generations.
const (
	RulesCurrent Rules = iota // the Rust service
	Rules2023                 // the Django server of December 2023
)

// Options are the settings of a compilation.
type Options struct {
	Rules        Rules
	RegexTimeout time.Duration // for one pattern that RE2 cannot express, on one property; 0 = DefaultRegexTimeout
}

// DefaultRegexTimeout is a little above what PostHog's step limit comes to.
const DefaultRegexTimeout = 5 * time.Millisecond

// Program is a team's definitions, compiled. It is immutable.
type Program struct {
	teamID   int64
	version  string
	token    string
	zone     *time.Location
	flags    []*Flag // a flag comes after those it depends on
	byKey    map[string]*Flag
	problems []Problem

	slots       int              // number of properties that filters read
	tests       int              // number of different filters on person properties
	person      map[string]int32 // key → slot
	groups      []group
	derivations []derivation
	device      int32     // slot of $device_id, -1 if no flag buckets by it
	cohorts     []*cohort // those that filters refer to; a cohort comes after those it refers to
}

// group is a group type that some filter or condition is about.
type group struct {
	index  int64
	name   string
	mapped bool             // the index has a name
	keys   map[string]int32 // property key → slot
}

// Flag is a compiled flag. What every evaluation reads comes first, so that it lies close together.
type Flag struct {
	active     bool
	survey     bool
	runtime    Runtime // RuntimeAll unless it is for one runtime only
	fault      fault   // why it cannot be evaluated
	refused    bool    // its document is of a kind that fails its dependents, too
	missing    bool    // it depends, at whatever distance, on a flag that does not exist or on itself
	continuity bool
	byDevice   bool
	earlyExit  bool
	group      int32 // the group type it aggregates by, -1 = persons
	enrollment int32 // slot of its early access property, -1 = none
	super      *condition
	holdout    *holdout
	conditions []condition
	off, on    *Answer // a flag that failed has the answer off, too
	anyHash    *Answer // what every hash leads to, nil if that differs
	variants   []variant
	prefix     string // what is hashed before an identifier

	ID            int64
	Key           string
	Version       int64
	HasExperiment bool

	place    int // in the program
	keyBytes int // length of the key at the start of each Answer's member
	contexts []string
	needs    []*Flag
}

// condition is one of a flag's condition sets.
type condition struct {
	index     int // as stored
	group     int32
	rollout   float64 // percent
	threshold float64 // rollout / 100
	override  *Answer // of a variant that exists
	filters   []filter
}

type variant struct {
	boundary float64
	answer   *Answer
}

type holdout struct {
	percentage float64
	threshold  float64
	answer     *Answer
}

// Problem is a flag that did not compile. It fails in every response that would contain it.
type Problem struct {
	FlagID int64  `json:"flag_id"`
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// TeamID is the team's id.
func (p *Program) TeamID() int64 { return p.teamID }

// Version is the version of the definitions.
func (p *Program) Version() string { return p.version }

// Token is the team's API token.
func (p *Program) Token() string { return p.token }

// Flags are the team's flags, also those that no response contains, in the order of responses. Not to be changed.
func (p *Program) Flags() []*Flag { return p.flags }

// Problems are the flags that did not compile.
func (p *Program) Problems() []Problem { return p.problems }

// Active says whether responses contain the flag, filters aside.
func (f *Flag) Active() bool { return f.active }
