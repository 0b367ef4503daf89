package eval

import "slices"

// fault is why a value cannot be known.
type fault uint8

const (
	noFault         fault = iota
	faultProperty         // a property that the request does not carry
	faultMembership       // a static or behavioural cohort
	faultHashKey          // the stored hash key of a person
	faultGroups           // a group type without name
	faultPattern          // a regular expression that cannot be run here
	faultDependency       // another flag that failed
	faultDefinition       // the flag's own document
	faultCohortMissing
	faultCohortCycle
	faultCohortFilters
)

// faultTexts are the codes of responses, PostHog's where it has one for the case, and their descriptions.
var faultTexts = [...]struct{ code, description string }{
	noFault:            {"", ""},
	faultProperty:      {"database_unavailable", "Needs a property that the request does not carry"},
	faultMembership:    {"database_unavailable", "Needs a cohort membership that is not computed from properties"},
	faultHashKey:       {"hash_key_override_error", "Needs the hash key override of the person"},
	faultGroups:        {"group_mapping_retry", "Needs the name of a group type"},
	faultPattern:       {"regex_not_supported", "Needs a regular expression with set operations in a class"},
	faultDependency:    {"dependency_failed", "Needs a flag that failed"},
	faultDefinition:    {"data_parsing_error", "The flag's definition cannot be read"},
	faultCohortMissing: {"dependency_not_found_cohort", "Needs a cohort that does not exist"},
	faultCohortCycle:   {"dependency_cycle_cohort", "Needs a cohort that refers to itself"},
	faultCohortFilters: {"cohort_filters_parsing_error", "Needs a cohort whose filters cannot be read"},
}

// ErrorCodes are all that ErrorCode may return.
func ErrorCodes() []string {
	var codes []string
	for _, text := range faultTexts[noFault+1:] {
		if !slices.Contains(codes, text.code) {
			codes = append(codes, text.code)
		}
	}
	return codes
}

func (f fault) String() string {
	return faultTexts[f].code
}
