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

// DefaultRegexTimeout is about what PostHog's step limit comes to.
const DefaultRegexTimeout = 2 * time.Millisecond

// Program is a team's definitions, compiled. It is immutable.
type Program struct {
	teamID   int64
	version  string
	token    string
	flags    []*Flag
	problems []Problem
}

// Flag is a compiled flag.
type Flag struct {
	ID            int64
	Key           string
	Version       int64
	HasExperiment bool
}

// Problem is a flag that did not compile. It fails in every response that would contain it.
type Problem struct {
	FlagID int64
	Key    string
	Reason string
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
