package decide

import "net/http"

// Values of headers that many answers share. net/http does not change them.
var (
	corsTrue    = []string{"true"}
	corsMethods = []string{"GET, POST, OPTIONS, HEAD"}
	corsHeaders = []string{"X-Requested-With, Content-Type, Authorization"}
	corsExposed = []string{"X-PostHog-Rate-Limit-Warning, X-Everflag-Version, X-Everflag-Stale, ETag, Retry-After"}
	corsMaxAge  = []string{"86400"}
	varyOrigin  = []string{"Origin"}
	varyAll     = []string{"Origin, Access-Control-Request-Headers"}
)

// setCORS lets the page that asks read the answer. It comes before everything that can fail: a browser reports an answer without these headers as a
// network error, on which SDKs open their circuit breakers.
func setCORS(h http.Header, r *http.Request) {
	h["Vary"] = varyOrigin
	origin := r.Header["Origin"]
	if len(origin) == 0 {
		return
	}
	h["Access-Control-Allow-Origin"] = origin[:1:1]
	h["Access-Control-Allow-Credentials"] = corsTrue
	h["Access-Control-Expose-Headers"] = corsExposed
	if r.Method != http.MethodOptions {
		return
	}
	h["Vary"] = varyAll
	h["Access-Control-Allow-Methods"] = corsMethods
	h["Access-Control-Max-Age"] = corsMaxAge
	h["Access-Control-Allow-Headers"] = corsHeaders
	if asked := r.Header["Access-Control-Request-Headers"]; len(asked) > 0 {
		h["Access-Control-Allow-Headers"] = asked[:1:1]
	}
}
