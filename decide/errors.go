package decide

import (
	"errors"
	"net/http"

	"github.com/everflag/everflag/internal/flagcache"
)

// apiError is an answer that is not 200. Clients compare codes and texts: they are PostHog's to the letter. Without kind it is plain text.
type apiError struct {
	status     int
	kind       string
	code       string
	detail     string
	hint       string // for people, where we know more than PostHog's text says
	retryAfter string // seconds
}

// Error is the text for people.
func (e *apiError) Error() string { return e.detail }

func (e *apiError) appendBody(dst []byte) []byte {
	if e.kind == "" {
		return append(dst, e.detail...)
	}
	dst = append(append(dst, `{"type":"`...), e.kind...)
	dst = append(append(dst, `","code":"`...), e.code...)
	dst = append(dst, `","detail":`...)
	dst = flagcache.AppendString(dst, []byte(e.detail))
	dst = append(dst, `,"attr":null`...)
	if e.hint != "" {
		dst = append(dst, `,"hint":`...)
		dst = flagcache.AppendString(dst, []byte(e.hint))
	}
	return append(dst, '}')
}

// retryLater is how long a client should wait that met an outage or a full server. Short: both tend to pass.
const retryLater = "2"

// The errors that are the same under all rules.
var (
	errNotFound    = &apiError{status: http.StatusNotFound, detail: "Not found."}
	errMethod      = &apiError{status: http.StatusMethodNotAllowed, detail: "Method not allowed."}
	errInternal    = &apiError{status: http.StatusInternalServerError, detail: "Internal server error."}
	errBodyTooBig  = &apiError{status: http.StatusRequestEntityTooLarge, detail: "The request body is too large."}
	errUnavailable = &apiError{
		status: http.StatusServiceUnavailable, retryAfter: retryLater,
		detail: "The flag definitions are not available yet. Please try again later.",
	}
	errBusy = &apiError{
		status: http.StatusServiceUnavailable, retryAfter: retryLater,
		detail: "The server is at its limit of concurrent requests. Please try again later.",
	}
	errRateLimited = &apiError{
		status: http.StatusTooManyRequests, retryAfter: "1",
		kind: "validation_error", code: "rate_limit_exceeded", detail: "Rate limit exceeded",
	}
	errNoCredentials = &apiError{
		status: http.StatusUnauthorized,
		kind:   "authentication_error", code: "not_authenticated", detail: "Authentication credentials were not provided.",
	}
	errBadSecret = &apiError{
		status: http.StatusUnauthorized,
		kind:   "authentication_error", code: "authentication_failed", detail: "Secret API token is invalid.",
	}
	errPersonalKey = &apiError{
		status: http.StatusUnauthorized,
		kind:   "authentication_error", code: "authentication_failed", detail: "Personal API key is invalid.",
		hint: "Personal API keys cannot be verified here. Use the project secret key (phs_...) of the project's settings instead.",
	}
)

// requestErrors are the errors of a request that differ between the rules.
type requestErrors struct {
	noToken      *apiError
	unknownToken *apiError
	noDistinctID *apiError
	undecodable  func(why error) *apiError
}

var currentErrors = requestErrors{
	noToken: &apiError{
		status: http.StatusUnauthorized, kind: "authentication_error", code: "not_authenticated",
		detail: "No API token provided. Please include a valid API token in your request.",
	},
	unknownToken: &apiError{
		status: http.StatusUnauthorized, kind: "authentication_error", code: "authentication_failed",
		detail: "The provided API key is invalid or has expired. Please check your API key and try again.",
	},
	noDistinctID: &apiError{
		status: http.StatusBadRequest, detail: "The distinct_id field is missing from the request. Please include a valid identifier.",
	},
	undecodable: func(why error) *apiError {
		if errors.Is(why, errFormJSON) {
			return &apiError{status: http.StatusBadRequest, detail: "Failed to decode request: invalid JSON structure. Please check your request format and try again."}
		}
		return &apiError{status: http.StatusBadRequest, detail: "Failed to decode request: " + why.Error() + ". Please check your request format and try again."}
	},
}

var errors2023 = requestErrors{
	noToken: &apiError{
		status: http.StatusUnauthorized, kind: "authentication_error", code: "no_api_key",
		detail: "No project API key provided. You can find your project API key in PostHog project settings.",
	},
	unknownToken: &apiError{
		status: http.StatusUnauthorized, kind: "authentication_error", code: "invalid_api_key",
		detail: "Project API key invalid. You can find your project API key in PostHog project settings.",
	},
	noDistinctID: &apiError{
		status: http.StatusBadRequest, kind: "validation_error", code: "missing_distinct_id", detail: "Decide requires a distinct_id.",
	},
	undecodable: func(why error) *apiError {
		return &apiError{status: http.StatusBadRequest, kind: "validation_error", code: "malformed_data", detail: "Malformed request data: " + why.Error()}
	},
}

// errors are those of the endpoint.
func (x *exchange) errors() *requestErrors {
	if x.legacy {
		return &errors2023
	}
	return &currentErrors
}

// bodyError is the answer to a body that could not be read.
func (e *requestErrors) bodyError(err error) *apiError {
	switch {
	case errors.Is(err, errTooLarge):
		return errBodyTooBig
	case errors.Is(err, errCrowded):
		return errBusy
	}
	return e.undecodable(err)
}
