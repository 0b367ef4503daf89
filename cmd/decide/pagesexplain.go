package main

import (
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/admin/pages"
)

const (
	maxForm      = 1 << 20
	maxExplained = 60_000 // bytes of a page that the outcomes may fill, with their steps
	maxGaps      = 20
)

// explainView is the page that explains.
type explainView struct {
	*teamView
	Asked    question
	Problems map[string]string // by field of the form
	Answered bool
	Errors   bool // errorsWhileComputingFlags
	Outcomes []outcome
	Hidden   int // outcomes that are not shown
	Counts   []tally
	Unknown  []gap
}

// question is the form.
type question struct {
	DistinctID, Properties, Groups, GroupProperties, Flag, AnonID, DeviceID string
}

// outcome is one explained flag.
type outcome struct {
	eval.FlagExplanation
	Value, Mood string
	Stages      []stage
	Open        bool
	Cut         bool // its steps are not shown
}

// stage is the steps of one condition, or those that come before the conditions.
type stage struct {
	Condition int // from 1; 0 = none
	Steps     []stepView
}

type stepView struct{ What, Result, Mood, Hash string }

type tally struct {
	Mood, Text string
}

// gap is something that was not known, and the flags that asked for it.
type gap struct {
	What  string
	Flags []string
}

func (p *reader) askExplain(w http.ResponseWriter, r *http.Request, s *subject) {
	p.showExplain(w, http.StatusOK, &explainView{teamView: s.view, Asked: question{Flag: r.URL.Query().Get("flag")}})
}

// explain answers the form. It changes nothing, but what people enter here belongs into no address and no log.
func (p *reader) explain(w http.ResponseWriter, r *http.Request, s *subject) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		p.site.Message(w, http.StatusBadRequest, "Not readable", "The form could not be read: "+err.Error())
		return
	}
	v := &explainView{teamView: s.view, Problems: map[string]string{}, Asked: question{
		DistinctID: r.PostForm.Get("distinct_id"), Properties: r.PostForm.Get("person_properties"), Groups: r.PostForm.Get("groups"),
		GroupProperties: r.PostForm.Get("group_properties"), Flag: strings.TrimSpace(r.PostForm.Get("flag")),
		AnonID: strings.TrimSpace(r.PostForm.Get("$anon_distinct_id")), DeviceID: strings.TrimSpace(r.PostForm.Get("$device_id")),
	}}
	status := http.StatusOK
	if body := v.Asked.body(v.Problems); len(v.Problems) > 0 {
		status = http.StatusUnprocessableEntity
	} else if explanation, err := decide.Explain(s.program, body, time.Now()); err != nil {
		status, v.Problems["form"] = http.StatusUnprocessableEntity, err.Error()
	} else {
		v.answer(&explanation)
	}
	p.showExplain(w, status, v)
}

func (p *reader) showExplain(w http.ResponseWriter, status int, v *explainView) {
	trail := []pages.Link{{Name: v.Title(), Address: v.Address("/team")}, {Name: "explain"}}
	p.site.Show(w, status, "explain", pages.View{Title: "Explain · " + v.Title(), Trail: trail, Body: v})
}

// body is the request to /flags that the form stands for. What is wrong with a field goes to problems.
func (q question) body(problems map[string]string) []byte {
	request := map[string]any{"distinct_id": q.DistinctID}
	if strings.TrimSpace(q.DistinctID) == "" {
		problems["distinct_id"] = "Who is it about? Any text will do."
	}
	for name, text := range map[string]string{"person_properties": q.Properties, "groups": q.Groups, "group_properties": q.GroupProperties} {
		if strings.TrimSpace(text) == "" {
			continue
		}
		var value map[string]any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			problems[name] = "Not a JSON object: " + err.Error()
			continue
		}
		request[name] = json.RawMessage(text)
	}
	for name, text := range map[string]string{"$anon_distinct_id": q.AnonID, "$device_id": q.DeviceID} {
		if text != "" {
			request[name] = text
		}
	}
	body, err := json.Marshal(request)
	if err != nil {
		problems["form"] = err.Error()
	}
	return body
}

// answer fills in what the evaluator did.
func (v *explainView) answer(e *eval.Explanation) {
	v.Answered, v.Errors = true, e.Errors
	counts := map[string]int{}
	left := maxExplained
	for i := range e.Flags {
		f := &e.Flags[i]
		if v.Asked.Flag != "" && f.Key != v.Asked.Flag {
			continue
		}
		o := outcome{FlagExplanation: *f, Open: v.Asked.Flag != ""}
		o.Payload = plain(json.RawMessage(f.Payload)) // most are JSON in a JSON string
		o.judge()
		counts[o.Mood]++
		v.noteGaps(f)
		if left -= o.size(); left < 0 {
			v.Hidden++
			continue
		}
		shown, after := 0, left
		for shown < len(f.Steps) && after > stepSize(&f.Steps[shown]) {
			after -= stepSize(&f.Steps[shown])
			shown++
		}
		if shown < len(f.Steps) && !o.Open { // some steps of a flag would mislead, where all can be had
			shown, after = 0, left
		}
		left = after
		o.Stages, o.Cut = stages(f.Steps[:shown]), shown < len(f.Steps)
		v.Outcomes = append(v.Outcomes, o)
	}
	for _, t := range []tally{{"good", "on"}, {"off", "off"}, {"bad", "unknown"}, {"", "not in the answer"}} {
		if n := counts[t.Mood]; n > 0 {
			v.Counts = append(v.Counts, tally{t.Mood, strconv.Itoa(n) + " " + t.Text})
		}
	}
}

// size is about how many bytes of a page the outcome takes, its steps aside.
func (o *outcome) size() int {
	return 700 + 2*len(url.QueryEscape(o.Key)) + escaped(200, o.Omitted) + escaped(400, o.Payload)
}

func stepSize(s *eval.Step) int { return 200 + escaped(300, s.What) + escaped(80, s.Result) }

func escaped(n int, text string) int { return len(template.HTMLEscapeString(pages.Clip(n, text))) }

// judge says the outcome in a word.
func (o *outcome) judge() {
	switch {
	case o.Omitted != "" && o.Reason == "":
		o.Value, o.Mood = "not in the answer", ""
	case o.Failed:
		o.Value, o.Mood = "unknown", "bad"
	case o.Variant != nil:
		o.Value, o.Mood = *o.Variant, "good"
	case o.Enabled:
		o.Value, o.Mood = "on", "good"
	default:
		o.Value, o.Mood = "off", "off"
	}
}

// noteGaps collects what was not known.
func (v *explainView) noteGaps(f *eval.FlagExplanation) {
	for i, step := range f.Steps {
		told := strings.Contains(step.What, "in cohort ") && i+1 < len(f.Steps) && strings.HasPrefix(f.Steps[i+1].What, "cohort ") // by what follows
		if step.Result != "unknown" || told {
			continue
		}
		what := gapOf(step.What)
		i := slices.IndexFunc(v.Unknown, func(g gap) bool { return g.What == what })
		if i < 0 {
			if len(v.Unknown) == maxGaps {
				return
			}
			i = len(v.Unknown)
			v.Unknown = append(v.Unknown, gap{What: what})
		}
		if g := &v.Unknown[i]; !slices.Contains(g.Flags, f.Key) && len(g.Flags) < 10 {
			g.Flags = append(g.Flags, f.Key)
		}
	}
}

// gapOf is what a step lacked: the property, where it tested one.
func gapOf(what string) string {
	if cohort, test, ok := strings.Cut(what, ": "); ok && strings.HasPrefix(cohort, "cohort ") {
		what = test
	}
	before, after, isTest := strings.Cut(what, ` "`)
	if key, err := strconv.QuotedPrefix(`"` + after); isTest && err == nil && (before == "person property" || strings.HasPrefix(before, "property of ")) {
		return before + " " + key
	}
	return what
}

// stages groups steps by their condition.
func stages(steps []eval.Step) (list []stage) {
	for _, s := range steps {
		condition := 0
		if s.Condition != nil {
			condition = *s.Condition + 1
		}
		if len(list) == 0 || list[len(list)-1].Condition != condition {
			list = append(list, stage{Condition: condition})
		}
		view := stepView{What: s.What, Result: s.Result}
		view.Mood = map[string]string{"true": "good", "false": "off", "unknown": "bad"}[s.Result]
		if s.Hash != nil {
			view.Hash = strconv.FormatFloat(*s.Hash*100, 'f', 2, 64) + " of 100"
		}
		last := &list[len(list)-1]
		last.Steps = append(last.Steps, view)
	}
	return list
}
