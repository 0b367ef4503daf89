package decide

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"

	"github.com/everflag/everflag/decide/eval"
	"github.com/everflag/everflag/internal/flagcache"
)

// The errors of the OpenFeature Remote Evaluation Protocol that PostHog has no counterpart for.
var (
	errNoTargetingKey = &apiError{status: http.StatusBadRequest, code: "TARGETING_KEY_MISSING", detail: "The context has no targetingKey."}
	errFlagNotFound   = &apiError{status: http.StatusNotFound, code: "FLAG_NOT_FOUND", detail: "There is no such flag for this context."}
)

// ofrep answers the OpenFeature Remote Evaluation Protocol: one flag, or all of them if key is empty. The token comes as bearer token or API key. The
// context's targetingKey is the distinct id, groups, group_properties, $device_id and $anon_distinct_id mean what they mean in /flags, flags asks for some
// flags only, and every other member is a person property.
func (h *Handler) ofrep(x *exchange, key string) *apiError {
	if !x.allow(http.MethodPost) {
		return errMethod
	}
	x.ofrep = key
	if e := h.limits.checkClient(x, h.cfg.TrustedProxies); e != nil {
		return e
	}
	if err := x.body.read(x.r); err != nil {
		return currentErrors.bodyError(err)
	}
	if !h.enter() {
		h.metrics.busy.Inc()
		return errBusy
	}
	defer h.leave()
	req := &x.request
	if err := x.body.decodeContext(req, x.r); err != nil {
		return currentErrors.bodyError(err)
	}
	if req.token = cmp.Or(bearer(x.r.Header), x.r.Header.Get("X-Api-Key"), x.query.token); req.token == "" {
		return currentErrors.noToken
	}
	if e := h.limits.checkToken(x, req.token); e != nil {
		return e
	}
	program, e := h.program(x, req.token)
	switch {
	case e != nil:
		return e
	case !req.hasDistinctID:
		return errNoTargetingKey
	case key != "":
		req.keys = append(req.keys[:0], key)
		req.input.Keys = req.keys
	}
	if req.runtime == eval.RuntimeUnknown && detectRuntime(x.r.Header) == eval.RuntimeUnknown {
		req.runtime = eval.RuntimeServer // a provider in a browser is known by its headers
	}
	d := h.decide(x, program)
	if key != "" {
		return x.sendFlag(d, key)
	}
	x.sendBulk(d)
	return nil
}

// sendFlag answers with the one flag of the decision.
func (x *exchange) sendFlag(d *eval.Decision, key string) *apiError {
	for i := range d.Results {
		if r := &d.Results[i]; r.Flag.Key == key {
			if r.Failed {
				return ofrepFailure(r)
			}
			x.json()
			x.out = x.appendOFREP(x.out, r)
			return nil
		}
	}
	return errFlagNotFound
}

// sendBulk answers with all flags of the decision. The tag is of the answer itself, so that it changes with whatever the answer depends on, the context
// above all.
func (x *exchange) sendBulk(d *eval.Decision) {
	x.json()
	x.out = append(x.out, `{"flags":[`...)
	for i := range d.Results {
		if i > 0 {
			x.out = append(x.out, ',')
		}
		if r := &d.Results[i]; r.Failed {
			x.out = ofrepFailure(r).appendOFREP(x.out, r.Flag.Key)
		} else {
			x.out = x.appendOFREP(x.out, r)
		}
	}
	x.out = append(x.out, `]}`...)
	sum := sha256.Sum256(x.out)
	tag := hex.EncodeToString(sum[:16])
	x.header["Etag"] = []string{`"` + tag + `"`}
	if etagOf(x.r.Header) == tag {
		x.status, x.out = http.StatusNotModified, x.out[:0]
		delete(x.header, "Content-Type")
	}
}

// appendOFREP appends one evaluated flag. The value is the variant's key, or whether the flag is on; the payload is part of the metadata.
func (x *exchange) appendOFREP(dst []byte, r *eval.Result) []byte {
	dst = flagcache.AppendString(append(dst, `{"key":`...), []byte(r.Flag.Key))
	if r.Variant != "" {
		dst = flagcache.AppendString(append(dst, `,"value":`...), []byte(r.Variant))
		dst = flagcache.AppendString(append(dst, `,"variant":`...), []byte(r.Variant))
	} else {
		dst = strconv.AppendBool(append(dst, `,"value":`...), r.Enabled)
	}
	dst = append(append(dst, `,"reason":"`...), x.ofrepReason(r)...)
	dst = append(append(dst, `","metadata":{"reason":"`...), r.Reason.String()...)
	dst = strconv.AppendInt(append(dst, `","flagId":`...), r.Flag.ID, 10)
	dst = strconv.AppendInt(append(dst, `,"flagVersion":`...), r.Flag.Version, 10)
	switch {
	case len(r.Payload) > 0 && r.Payload[0] == '"':
		dst = append(append(dst, `,"payload":`...), r.Payload...)
	case len(r.Payload) > 0: // metadata holds scalars only
		dst = flagcache.AppendString(append(dst, `,"payload":`...), r.Payload)
	}
	return append(dst, `}}`...)
}

// ofrepReason is the reason in OpenFeature's terms.
func (x *exchange) ofrepReason(r *eval.Result) string {
	switch {
	case x.stale:
		return "STALE"
	case r.Variant != "":
		return "SPLIT"
	case r.Enabled:
		return "TARGETING_MATCH"
	case r.Reason == eval.FlagDisabled:
		return "DISABLED"
	default:
		return "DEFAULT"
	}
}

// ofrepFailure is a flag that cannot be computed: an error, on which providers fall back to the caller's default, and never off.
func ofrepFailure(r *eval.Result) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "GENERAL", detail: "The flag cannot be computed: " + r.ErrorCode()}
}

// appendOFREP appends the error in OpenFeature's terms.
func (e *apiError) appendOFREP(dst []byte, key string) []byte {
	code := "GENERAL"
	switch {
	case e.kind == "" && e.code != "":
		code = e.code
	case e.status == http.StatusBadRequest:
		code = "PARSE_ERROR"
	}
	dst = append(dst, '{')
	if key != "" {
		dst = append(flagcache.AppendString(append(dst, `"key":`...), []byte(key)), ',')
	}
	dst = append(append(dst, `"errorCode":"`...), code...)
	return append(flagcache.AppendString(append(dst, `","errorDetails":`...), []byte(e.detail)), '}')
}

// decodeContext reads the body of an OFREP request.
func (b *body) decodeContext(req *request, r *http.Request) error {
	data := b.wire.Bytes()
	if containsGzip(r.Header["Content-Encoding"]) {
		var err error
		if data, err = b.inflate(data); err != nil {
			return err
		}
	}
	if len(data) == 0 {
		return nil // no context
	}
	s := scanner{text: lossy(data)}
	if s.peek() != '{' {
		return errNotObject
	}
	err := s.object(func(name string) error {
		if name != "context" || s.peek() != '{' {
			return s.skip()
		}
		return s.object(func(name string) error { return req.contextField(&s, name) })
	})
	switch {
	case err != nil:
		return err
	case !s.end():
		return errAfterJSON
	case len(req.groups) > maxGroups || len(req.groupProperties) > maxGroups:
		return errTooManyGroups
	}
	req.resolve()
	return nil
}

// contextField reads one member of the context.
func (r *request) contextField(s *scanner, name string) error {
	switch name {
	case "targetingKey":
		return r.readDistinctID(s, false)
	case "flags":
		return s.names(&r.keys, true, nil)
	case "groups", "$groups", "group_properties", "$group_properties", "$anon_distinct_id", "$device_id":
		return r.field(s, name, true)
	}
	value, err := s.value()
	r.input.Person = append(r.input.Person, eval.Property{Key: name, Value: value})
	return err
}
