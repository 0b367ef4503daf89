package eval

import "strconv"

// Reason is why a flag has its value.
type Reason uint8

// The reasons.
const (
	ConditionMatch Reason = iota
	NoConditionMatch
	NoConditionMatchGroups // no match, and conditions of groups were skipped as the request has no such group
	OutOfRolloutBound
	NoGroupType
	SuperConditionValue
	HoldoutConditionValue
	FlagDisabled
	MissingDependency
	Failure // see Result.ErrorCode
)

// reasonTexts are the codes and descriptions of responses, and how telling a reason is: a flag that does not match has the most telling one of its
// conditions.
var reasonTexts = [...]struct {
	code, description string
	score             int8
}{
	ConditionMatch:   {"condition_match", "Matched condition set ", 4}, // the number follows
	NoConditionMatch: {"no_condition_match", "No matching condition set", 2},
	NoConditionMatchGroups: {
		"no_condition_match", "No matching condition set (group conditions were not evaluated because no group type was provided)", 2,
	},
	OutOfRolloutBound:     {"out_of_rollout_bound", "Out of rollout bound", 3},
	NoGroupType:           {"no_group_type", "No group type", 1},
	SuperConditionValue:   {"super_condition_value", "Super condition value", 6},
	HoldoutConditionValue: {"holdout_condition_value", "Holdout condition value", 5},
	FlagDisabled:          {"flag_disabled", "Feature flag is disabled", 0},
	MissingDependency:     {"missing_dependency", "Flag cannot be evaluated due to missing dependency", -1},
	Failure:               {"failure", "", -1},
}

// String is the code of the reason in responses; a failure has the code of its error instead.
func (r Reason) String() string {
	return reasonTexts[r].code
}

// Decision is the outcome of one request. It belongs to the Scratch and is valid until the next Evaluate with it.
type Decision struct {
	Results     []Result // in the order of the program; only flags that belong in a response
	Errors      bool     // errorsWhileComputingFlags
	RegexLimits int      // how many times a regular expression hit its limit
}

// Result is one evaluated flag. The Flag and what the Answer refers to are part of the program: not to be changed.
type Result struct {
	Flag *Flag
	*Answer
	Condition int // index of the condition that Reason is about, -1 = none
	Reason    Reason
	Failed    bool // the value cannot be known; Enabled and Variant are then off

	fault fault
}

// ErrorCode is why the flag failed, "" if it did not.
func (r *Result) ErrorCode() string { return r.fault.String() }

// Description is the text of the reason in responses.
func (r *Result) Description() string {
	switch {
	case r.Failed:
		return faultTexts[r.fault].description
	case r.Reason == ConditionMatch:
		return reasonTexts[r.Reason].description + strconv.Itoa(r.Condition+1)
	default:
		return reasonTexts[r.Reason].description
	}
}

// Answer is one of the values that a flag can take.
type Answer struct {
	member     []byte // in the map of /flags v2, with the usual reason
	reasonAt   int    // where in member the reason begins
	metadataAt int    // and what follows it
	usual      Reason // of the first condition, which most flags have no other than
	named      bool   // there is a variant; its name may be empty
	value      []byte // in the maps of /flags v1 and /decide

	Enabled bool
	Variant string // "" = none
	Payload []byte // the JSON text of the stored payload, nil = none
}
