package eval

import (
	"time"
	"unicode/utf8"
)

// Kind is the JSON type of a Value.
type Kind uint8

// The kinds. The zero Value is JSON null.
const (
	Null Kind = iota
	False
	True
	Number
	String
	Array
	Object
)

// Value is one JSON value of a request. Text is the decoded text of a String, the literal of a Number as it was sent, the compact JSON text of an
// Array or Object, and empty otherwise.
type Value struct {
	Kind Kind
	Text string
}

// Property is a property of a person or a group.
type Property struct {
	Key   string
	Value Value
}

// Group is one entry of the request's groups, or of its group_properties, or of both.
type Group struct {
	Type       string
	Key        string     // a string as it is, a number as NumberText renders it
	Usable     bool       // the key is a non-empty string or a number
	Properties []Property // in request order, the last duplicate wins
}

// Runtime says where an SDK runs, as far as the request shows it.
type Runtime uint8

// The runtimes. RuntimeAll is what a request asks for that wants the flags of every runtime.
const (
	RuntimeUnknown Runtime = iota
	RuntimeClient
	RuntimeServer
	RuntimeAll
)

// Input is a request, decoded. Evaluate only reads it.
type Input struct {
	DistinctID     string     // as text, cut by DistinctID
	AnonDistinctID string     // "" = not given
	DeviceID       string     // the top-level device id, "" = not given
	Person         []Property // person_properties in request order, the last duplicate wins
	Groups         []Group
	GeoIP          []Property // $geoip_* properties that fill gaps; nil = not known
	Keys           []string   // the flags asked for; nil = all
	Contexts       []string   // the evaluation contexts asked for; empty = all
	Runtime        Runtime
	SurveysOnly    bool // only flags of surveys
	Now            time.Time
}

const (
	maxDistinctIDBytes = 200 // up to here an id is taken as it is
	maxDistinctIDRunes = 200 // what is kept of a longer one
)

// DistinctID cuts an id as PostHog does before it hashes: one of more than 200 bytes is cut to its first 200 characters.
func DistinctID(text string) string {
	if len(text) <= maxDistinctIDBytes {
		return text
	}
	end := 0
	for range maxDistinctIDRunes {
		if end == len(text) {
			break
		}
		_, size := utf8.DecodeRuneInString(text[end:])
		end += size
	}
	return text[:end]
}
