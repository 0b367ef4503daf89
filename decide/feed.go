package decide

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

// surveyPrefix begins the keys of the flags that surveys create. SDKs do not evaluate them.
const surveyPrefix = "survey-targeting-"

// feed is the definitions as SDKs evaluate them locally, rendered once per version.
type feed struct {
	version string
	etag    string
	raw     []byte
	gzipped []byte
}

// feedBody is the JSON of a feed.
type feedBody struct {
	Flags                   []feedFlag                 `json:"flags"`
	GroupTypeMapping        map[string]string          `json:"group_type_mapping"`
	Cohorts                 map[string]json.RawMessage `json:"cohorts"`
	PropertyMatchingVersion json.RawMessage            `json:"property_matching_version,omitempty"`
	MinimalFlagCalledEvents json.RawMessage            `json:"minimal_flag_called_events,omitempty"`
}

// feedFlag is one flag of a feed. What PostHog cannot leave out stands even if the table lacks the column.
type feedFlag struct {
	ID                         json.RawMessage `json:"id"`
	TeamID                     json.RawMessage `json:"team_id"`
	Name                       json.RawMessage `json:"name"`
	Key                        string          `json:"key"`
	Filters                    any             `json:"filters"`
	Deleted                    bool            `json:"deleted"`
	Active                     bool            `json:"active"`
	EnsureExperienceContinuity json.RawMessage `json:"ensure_experience_continuity"`
	Version                    json.RawMessage `json:"version"`
	HasExperiment              bool            `json:"has_experiment"`
	EvaluationRuntime          json.RawMessage `json:"evaluation_runtime,omitempty"`
	BucketingIdentifier        json.RawMessage `json:"bucketing_identifier,omitempty"`
	EvaluationContexts         []string        `json:"evaluation_contexts"`
}

// renderFeed renders the feed of the team.
func renderFeed(team *flagcache.Team, sendCohorts bool, rules eval.Rules) (*feed, error) {
	config := readColumns(team.Config)
	body := feedBody{
		Flags: []feedFlag{}, GroupTypeMapping: groupTypeMapping(team), Cohorts: map[string]json.RawMessage{},
		PropertyMatchingVersion: config["property_matching_version"], MinimalFlagCalledEvents: config["minimal_flag_called_events"],
	}
	flags := readDefinitions(team, rules)
	cohorts := readCohorts(team)
	flags.rewriteDependencies()
	names, experiments := contextNames(team), experimentFlags(team)
	for _, f := range flags.list {
		if f.refused || strings.HasPrefix(f.key, surveyPrefix) || rules == eval.Rules2023 && !f.active {
			continue
		}
		if sendCohorts {
			cohorts.collect(f, body.Cohorts)
		} else {
			cohorts.expand(f, rules)
		}
		c := f.columns
		body.Flags = append(body.Flags, feedFlag{
			ID: c.raw("id"), TeamID: c.raw("team_id"), Name: c.raw("name"), Key: f.key, Filters: f.filters, Active: f.active,
			EnsureExperienceContinuity: c.raw("ensure_experience_continuity"), Version: c.raw("version"),
			HasExperiment: experiments[f.id], EvaluationRuntime: c["evaluation_runtime"], BucketingIdentifier: c["bucketing_identifier"],
			EvaluationContexts: append([]string{}, names[f.id]...),
		})
	}
	return newFeed(team.Version, body)
}

func newFeed(version string, body feedBody) (*feed, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, fmt.Errorf("rendering definitions: %w", err)
	}
	f := &feed{version: version, raw: bytes.TrimRight(text.Bytes(), "\n")}
	sum := sha256.Sum256(f.raw)
	f.etag = hex.EncodeToString(sum[:8])
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(f.raw); err != nil {
		return nil, fmt.Errorf("compressing definitions: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compressing definitions: %w", err)
	}
	f.gzipped = packed.Bytes()
	return f, nil
}

func groupTypeMapping(team *flagcache.Team) map[string]string {
	mapping := map[string]string{}
	for _, record := range team.GroupTypes {
		c := readColumns(record.JSON)
		if index := c.text("group_type_index"); index != "" {
			mapping[index] = c.text("group_type")
		}
	}
	return mapping
}

// contextNames are the evaluation contexts of each flag. They were tags until 2026.
func contextNames(team *flagcache.Team) map[int64][]string {
	names := map[string]string{}
	for _, record := range team.Contexts {
		names[record.Key] = readColumns(record.JSON).text("name")
	}
	of := map[int64][]string{}
	for _, record := range team.FlagContexts {
		c := readColumns(record.JSON)
		if name, ok := names[cmp.Or(c.text("evaluation_context_id"), c.text("tag_id"))]; ok {
			id := c.number("feature_flag_id")
			of[id] = append(of[id], name)
		}
	}
	return of
}

func experimentFlags(team *flagcache.Team) map[int64]bool {
	flags := map[int64]bool{}
	for _, record := range team.Experiments {
		flags[readColumns(record.JSON).number("feature_flag_id")] = true
	}
	return flags
}
