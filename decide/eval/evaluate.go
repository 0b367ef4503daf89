package eval

// Scratch is the memory that one evaluation uses and the next one reuses. The zero value is ready; it must not be shared between goroutines.
type Scratch struct {
	decision Decision
}

// Evaluate decides the flags that the request asks for. The decision is valid until the next Evaluate with s.
func (p *Program) Evaluate(in *Input, s *Scratch) *Decision {
	s.decision.Results = s.decision.Results[:0]
	s.decision.Errors = false
	return &s.decision
}
