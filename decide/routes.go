package decide

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// endpoint is what a path leads to.
type endpoint uint8

const (
	endpointUnknown endpoint = iota
	endpointFlags
	endpointDecide
	endpointConfig
	endpointConfigScript
	endpointArrayScript
	endpointDefinitions
	endpointOFREP
	endpointOFREPBulk
	endpoints
)

// endpointNames are the values of the metrics' label.
var endpointNames = [endpoints]string{
	"unknown", "flags", "decide", "config", "config_js", "array_js", "definitions", "ofrep", "ofrep_bulk",
}

// route finds the endpoint; argument is the token or flag key in the path.
func route(r *http.Request) (to endpoint, argument string) {
	path := r.URL.Path
	switch path {
	case "/flags", "/flags/":
		if len(r.Header["X-Original-Endpoint"]) > 0 && r.Header["X-Original-Endpoint"][0] == "decide" {
			return endpointDecide, ""
		}
		return endpointFlags, ""
	case "/decide", "/decide/":
		return endpointDecide, ""
	case "/flags/definitions", "/flags/definitions/", "/api/feature_flag/local_evaluation", "/api/feature_flag/local_evaluation/":
		return endpointDefinitions, ""
	case "/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/":
		return endpointOFREPBulk, ""
	}
	if key, ok := strings.CutPrefix(path, "/ofrep/v1/evaluate/flags/"); ok {
		return endpointOFREP, key
	}
	if rest, ok := strings.CutPrefix(path, "/array/"); ok {
		token, file, _ := strings.Cut(rest, "/")
		switch file {
		case "config", "config/":
			return endpointConfig, token
		case "config.js":
			return endpointConfigScript, token
		case "array.js", "array.full.js":
			return endpointArrayScript, token
		}
	}
	return endpointUnknown, ""
}

// query is what the endpoints read from the query string. Of a repeated parameter the first one counts.
type query struct {
	version     string
	hasVersion  bool
	config      string
	compression string
	token       string
	personalKey string
	surveysOnly bool
	sendCohorts bool
}

// parseQuery reads the parameters without building a map of them.
func parseQuery(raw string) query {
	var q query
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		if strings.ContainsAny(value, "%+") {
			if decoded, err := url.QueryUnescape(value); err == nil {
				value = decoded
			}
		}
		q.set(name, value)
	}
	return q
}

func (q *query) set(name, value string) {
	switch name {
	case "v", "version":
		if !q.hasVersion {
			q.version, q.hasVersion = value, true
		}
	case "config":
		q.config = cmp.Or(q.config, value)
	case "compression":
		q.compression = cmp.Or(q.compression, value)
	case "token":
		q.token = cmp.Or(q.token, value)
	case "personal_api_key":
		q.personalKey = cmp.Or(q.personalKey, value)
	case "only_evaluate_survey_feature_flags":
		q.surveysOnly = isTrue(value)
	case "send_cohorts":
		q.sendCohorts = value == "" || isTrue(value)
	}
}

func isTrue(text string) bool {
	return text == "1" || strings.EqualFold(text, "true")
}

// format is the shape of an answer.
type format uint8

const (
	formatFlagsV2 format = iota
	formatFlagsV1
	formatDecideV2
	formatDecideV1
)

// selectFormat finds the shape that the request asks for, and whether it wants the configuration, too.
//
// With legacy, that is as the Django server of 2023 does.
func (q *query) selectFormat(to endpoint, legacy bool) (f format, config bool) {
	version := 1
	if n, err := strconv.Atoi(q.version); err == nil {
		version = n
	} else if q.hasVersion && legacy {
		version = 2 // posthog-js 1.19 sent an unparsable version and wanted 2
	}
	if to == endpointDecide {
		return decideFormat(version, legacy), legacy || q.config == "" || isTrue(q.config)
	}
	switch {
	case !q.hasVersion && q.config == "":
		return formatFlagsV2, true
	case version >= 2:
		return formatFlagsV2, isTrue(q.config)
	default:
		return formatFlagsV1, isTrue(q.config)
	}
}

func decideFormat(version int, legacy bool) format {
	switch {
	case version == 2:
		return formatDecideV2
	case version == 3, legacy && version > 3:
		return formatFlagsV1
	case version >= 4:
		return formatFlagsV2
	default:
		return formatDecideV1
	}
}
