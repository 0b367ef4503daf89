package eval

// Reason is why a flag has its value.
type Reason uint8

// The reasons.
const (
	ConditionMatch Reason = iota
	NoConditionMatch
	OutOfRolloutBound
	NoGroupType
	SuperConditionValue
	HoldoutConditionValue
	FlagDisabled
	MissingDependency
	Failure // see Result.ErrorCode
)

var reasonCodes = [...]string{
	ConditionMatch:        "condition_match",
	NoConditionMatch:      "no_condition_match",
	OutOfRolloutBound:     "out_of_rollout_bound",
	NoGroupType:           "no_group_type",
	SuperConditionValue:   "super_condition_value",
	HoldoutConditionValue: "holdout_condition_value",
	FlagDisabled:          "flag_disabled",
	MissingDependency:     "missing_dependency",
	Failure:               "failure",
}

// String is the code of the reason in responses; a failure has the code of its error instead.
func (r Reason) String() string {
	return reasonCodes[r]
}

// Decision is the outcome of one request. It belongs to the Scratch and is valid until the next Evaluate with it.
type Decision struct {
	Results []Result // in the order of the program; only flags that belong in a response
	Errors  bool     // errorsWhileComputingFlags
}

// Result is one evaluated flag. The Flag and what the Answer refers to are part of the program: not to be changed.
type Result struct {
	Flag *Flag
	*Answer
	Reason    Reason
	Condition int    // index of the condition that Reason is about, -1 = none
	Failed    bool   // the value cannot be known; Enabled and Variant are then off
	ErrorCode string // why it failed
}

// Answer is one of the values that a flag can take.
type Answer struct {
	Enabled bool
	Variant string // "" = none
	Payload []byte // the JSON text of the stored payload, nil = none
}
