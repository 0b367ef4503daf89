// Package decide answers feature flag requests over HTTP as PostHog does: no answer ever presents as off what could not be computed, and 401 is kept
// for tokens that are known not to exist.
//
// A request walks through one file after the other: [Handler.ServeHTTP] (handler.go) finds the endpoint (routes.go), readBody (body.go) brings the body
// to memory and decodes its wire encoding, request.decode (request.go) scans the JSON (json.go) into an [eval.Input], the [Source] has the team's
// compiled program, eval decides, and appendEnvelope (response.go) puts the answer together, which leaves in one write.
//
// # Errors
//
// The statuses and texts are those of PostHog: see errors.go. Three of them are promises. 401 is answered only for [Absent], that is, with certainty; as
// long as the source cannot tell, the answer is 503 with Retry-After, on which every SDK keeps the flags it has. 200 without errorsWhileComputingFlags
// means that every flag was computed. And a panic in one request is that request's 500, counted, with the same CORS headers as any other answer: a
// browser that may not read an answer takes it for a network error.
//
// # Limits
//
// Reading a body costs a client its own bytes and nothing else: a slot of the concurrency limit is held only while a request is decoded and evaluated,
// which waits for nobody. Bodies are bounded on the wire and inflated, JSON in depth and in the number of values, headers and time by [NewServer].
//
// # Staleness
//
// Every answer says which version of the team's definitions it reflects (X-Everflag-Version), and how long the source has not been seen to follow its
// own source (X-Everflag-Stale) once that is longer than [Config.StaleAfter]. A stale answer is still an answer: definitions do not expire.
package decide
