// Package eval answers feature flag requests as PostHog does, from a team's definitions and the request alone: the same value on every machine, no I/O,
// no panic, and whatever the definitions and the request do not settle is marked failed rather than guessed.
//
// A team compiles once to an immutable [Program], which any number of goroutines may evaluate, each with a [Scratch] of its own. Matching is
// three-valued. A property that the request does not carry is unknown, since PostHog's database might hold it; so is membership in a static or
// behavioural cohort, the bucketing key of a flag with experience continuity when the request brings no anonymous id, and the value of a flag that
// failed. A flag is decided if every way of settling its unknowns gives the same value.
package eval
