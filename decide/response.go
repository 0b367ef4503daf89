package decide

import (
	"encoding/hex"
	"math/rand/v2"
	"strconv"

	"github.com/everflag/everflag/decide/eval"
)

// minimalConfig is the configuration in the answer to a GET.
const minimalConfig = `,"supportedCompression":["gzip","gzip-js"],"config":{"enable_collect_everything":true},"toolbarParams":{},"isAuthenticated":false,"sessionRecording":false`

// minimal answers a GET, which names no user: nothing was computed, and the answer says so, lest a client drop the flags it has.
func (x *exchange) minimal() {
	f, _ := x.query.selectFormat(x.to, x.legacy)
	if x.legacy {
		f = formatDecideV1
	}
	x.json()
	x.out = appendFlags(append(x.out, '{'), f, nil, true)
	x.out = x.appendIdentity(x.out)
	x.out = append(append(x.out, minimalConfig...), '}')
}

// appendAnswer puts the answer together; d is nil if the flags are disabled.
func (x *exchange) appendAnswer(f format, d *eval.Decision, v *view, config bool) {
	if d == nil && x.legacy && f == formatDecideV1 {
		f = formatDecideV2 // Django answered {} for every version
	}
	x.json()
	x.out = appendFlags(append(x.out, '{'), f, d, false)
	x.out = x.appendIdentity(x.out)
	if v.minimalFlagCalledEvents && f == formatFlagsV2 {
		x.out = append(x.out, `,"minimalFlagCalledEvents":true`...)
	}
	if config {
		x.out = v.appendConfig(append(x.out, ','), x.r.Header)
	}
	x.out = append(x.out, '}')
}

// appendFlags appends the members that hold the flags.
func appendFlags(dst []byte, f format, d *eval.Decision, errors bool) []byte {
	if d == nil {
		d = &eval.Decision{Errors: errors}
	}
	switch f {
	case formatFlagsV2:
		dst = appendErrors(dst, d.Errors)
		return d.AppendFlagsV2(append(dst, `,"flags":`...))
	case formatFlagsV1:
		dst = appendErrors(dst, d.Errors)
		dst = d.AppendFeatureFlags(append(dst, `,"featureFlags":`...))
		return d.AppendPayloads(append(dst, `,"featureFlagPayloads":`...))
	case formatDecideV2:
		return d.AppendEnabledMap(append(dst, `"featureFlags":`...))
	default:
		return d.AppendEnabledList(append(dst, `"featureFlags":`...))
	}
}

func appendErrors(dst []byte, errors bool) []byte {
	return strconv.AppendBool(append(dst, `"errorsWhileComputingFlags":`...), errors)
}

// appendIdentity appends which request this was, and when it was answered.
func (x *exchange) appendIdentity(dst []byte) []byte {
	if x.legacy {
		return dst
	}
	dst = appendRequestID(append(dst, `,"requestId":"`...), x.r.Header["X-Request-Id"])
	dst = append(dst, `","evaluatedAt":`...)
	return strconv.AppendInt(dst, x.now.UnixMilli(), 10)
}

// appendRequestID appends the id that the client or a proxy gave the request if it is a UUID, and a new one otherwise. It is a label, not a secret.
func appendRequestID(dst []byte, given []string) []byte {
	var id [16]byte
	if len(given) == 0 || !parseUUID(&id, given[0]) {
		for i := range 2 {
			n := rand.Uint64()
			for j := range 8 {
				id[8*i+j] = byte(n >> (8 * j))
			}
		}
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
	}
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		start := [...]int{0, 4, 6, 8, 10}[i]
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, id[start:end])
	}
	return dst
}

// parseUUID reads a UUID with its dashes or without any.
func parseUUID(id *[16]byte, text string) bool {
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		text = text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	}
	if len(text) != 32 {
		return false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return err == nil
}
