package eval

import (
	"slices"
	"strconv"
)

// answers builds the Answers of a flag with their pre-encoded fragments.
type answers struct {
	flag     *Flag
	key      []byte // "key":
	payloads *node
	text     []byte // for the encoding of one after the other
}

func newAnswers(f *Flag) *answers {
	a := &answers{flag: f, key: append(appendQuoted(nil, f.Key), ':')}
	f.keyBytes = len(a.key)
	return a
}

// plain is a boolean answer; payload names the payload that belongs to it, "" = none.
func (a *answers) plain(on bool, payload string) *Answer {
	answer := &Answer{Enabled: on, value: strconv.AppendBool(nil, on)}
	return a.finish(answer, "null", payload)
}

func (a *answers) variant(name string) *Answer {
	answer := &Answer{Enabled: true, Variant: name, named: true, value: appendQuoted(nil, name)}
	return a.finish(answer, string(answer.value), name)
}

func (a *answers) finish(answer *Answer, variant, payload string) *Answer {
	text := append(a.text[:0], a.key...)
	text = append(append(text, `{"key":`...), a.key[:len(a.key)-1]...)
	text = strconv.AppendBool(append(text, `,"enabled":`...), answer.Enabled)
	text = append(append(text, `,"variant":`...), variant...)
	answer.reasonAt = len(text)
	if answer.usual = NoConditionMatch; answer.Enabled {
		answer.usual = ConditionMatch
	}
	text = appendReason(text, answer.usual, 0)
	answer.metadataAt = len(text)
	text = strconv.AppendInt(append(text, `,"metadata":{"id":`...), a.flag.ID, 10)
	text = strconv.AppendInt(append(text, `,"version":`...), a.flag.Version, 10)
	text = append(text, `,"description":null,"payload":`...)
	start, end := len(text), 0
	if stored := a.payloads.present(payload); payload != "" && stored != nil {
		text = append(text, stored.raw...)
		end = len(text)
	} else {
		text = append(text, "null"...)
	}
	text = strconv.AppendBool(append(text, `,"has_experiment":`...), a.flag.HasExperiment)
	a.text = append(text, "}}"...)
	answer.member = slices.Clone(a.text)
	if end > 0 {
		answer.Payload = answer.member[start:end:end]
	}
	return answer
}

// tableConditions is how many condition indices have their reason pre-encoded.
const tableConditions = 32

// reasonFragments are the encoded reasons by reason and condition index + 1, failureFragments those of failures. Both are constant.
var (
	reasonFragments  = makeReasonFragments()
	failureFragments = makeFailureFragments()
)

func makeReasonFragments() (table [Failure][tableConditions + 1][]byte) {
	for reason := range table {
		for i := range table[reason] {
			table[reason][i] = appendReason(nil, Reason(reason), i-1)
		}
	}
	return table
}

func makeFailureFragments() (table [len(faultTexts)][]byte) {
	for f, text := range faultTexts {
		table[f] = appendReasonText(nil, text.code, -1, text.description)
	}
	return table
}

func appendReason(dst []byte, reason Reason, condition int) []byte {
	description := reasonTexts[reason].description
	if reason == ConditionMatch {
		description += strconv.Itoa(condition + 1)
	}
	return appendReasonText(dst, reasonTexts[reason].code, condition, description)
}

func appendReasonText(dst []byte, code string, condition int, description string) []byte {
	dst = append(append(dst, `,"reason":{"code":"`...), code...)
	dst = append(dst, `","condition_index":`...)
	if condition < 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendInt(dst, int64(condition), 10)
	}
	dst = append(append(dst, `,"description":"`...), description...)
	return append(dst, `"}`...)
}

// AppendFlagsV2 appends the map of /flags v2: every flag with reason and metadata.
func (d *Decision) AppendFlagsV2(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range d.Results {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = d.Results[i].AppendV2(dst)
	}
	return append(dst, '}')
}

// AppendV2 appends the flag's member of the map of /flags v2.
func (r *Result) AppendV2(dst []byte) []byte {
	if r.Condition == 0 && r.Reason == r.usual {
		return append(dst, r.member...)
	}
	dst = append(dst, r.member[:r.reasonAt]...)
	switch {
	case r.Failed:
		dst = append(append(dst, `,"failed":true`...), failureFragments[r.fault]...)
	case r.Condition < tableConditions:
		dst = append(dst, reasonFragments[r.Reason][r.Condition+1]...)
	default:
		dst = appendReason(dst, r.Reason, r.Condition)
	}
	return append(dst, r.member[r.metadataAt:]...)
}

// AppendFeatureFlags appends the map of /flags v1 and /decide v3: the value of every flag. One that failed is left out, so that clients keep what they
// have; PostHog's Rust service says false there.
func (d *Decision) AppendFeatureFlags(dst []byte) []byte {
	return d.appendMap(dst, func(r *Result) []byte {
		if r.Failed {
			return nil
		}
		return r.value
	})
}

// AppendPayloads appends the map of the payloads that are not null.
func (d *Decision) AppendPayloads(dst []byte) []byte {
	return d.appendMap(dst, func(r *Result) []byte { return r.Payload })
}

// AppendEnabledMap appends the map of /decide v2: the values of the flags that are on.
func (d *Decision) AppendEnabledMap(dst []byte) []byte {
	return d.appendMap(dst, func(r *Result) []byte {
		if !r.Enabled {
			return nil
		}
		return r.value
	})
}

// appendMap appends the object of key and value of the flags that have a value.
func (d *Decision) appendMap(dst []byte, value func(*Result) []byte) []byte {
	dst = append(dst, '{')
	start := len(dst)
	for i := range d.Results {
		r := &d.Results[i]
		v := value(r)
		if v == nil {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(append(dst, r.member[:r.Flag.keyBytes]...), v...)
	}
	return append(dst, '}')
}

// AppendEnabledList appends the list of /decide v1: the keys of the flags that are on.
func (d *Decision) AppendEnabledList(dst []byte) []byte {
	dst = append(dst, '[')
	start := len(dst)
	for i := range d.Results {
		r := &d.Results[i]
		if !r.Enabled {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, r.member[:r.Flag.keyBytes-1]...)
	}
	return append(dst, ']')
}
