package cachewriter

import (
	"encoding/binary"
	"strconv"

	"github.com/everflag/everflag/internal/flagcache"
)

// operations adds what lua/apply.lua writes to its arguments, and lists the keys that it touches.
func (w *Writer) operations(args []any, teams []*teamOps, tokens []tokenOp) (keys []string, all []any) {
	names, records := 0, 0
	for _, ops := range teams {
		if names++; ops.mode != modeStaged {
			names += len(ops.removes) + len(ops.sets)
			records += len(ops.sets)
		}
	}
	var staged []string
	keys = append(make([]string, 0, 4+len(teams)), w.keys.Meta, w.keys.Teams, w.keys.Tokens, w.keys.Changes)
	payload := appendList(appendList(make([]byte, 0, 40*names+64*len(tokens)+64), 3), len(teams))
	all = append(make([]any, 0, len(args)+1+records), args...)
	all = append(all, nil)
	for _, ops := range teams {
		keys = append(keys, w.keys.Team(ops.team))
		if ops.mode == modeStaged {
			payload = appendText(appendDigits(appendList(payload, 4), ops.team), ops.mode)
			payload = appendNumber(appendText(payload, ops.version), 1+len(ops.sets))
			staged = append(staged, w.keys.Staged(w.owner, w.steps, ops.team))
			continue
		}
		payload = appendText(appendDigits(appendList(payload, 5), ops.team), ops.mode)
		payload = appendNumber(appendText(payload, ops.version), len(ops.removes))
		payload = appendText(appendList(payload, 1+len(ops.removes)+len(ops.sets)), flagcache.VersionField)
		for _, name := range ops.removes {
			payload = appendText(payload, name)
		}
		for i := range ops.sets {
			payload = appendField(payload, ops.sets[i].row)
			all = append(all, &ops.sets[i])
		}
	}
	payload = appendTokens(appendTokens(payload, tokens, true), tokens, false)
	all[len(args)] = payload
	return append(keys, staged...), all
}

// appendField appends the name of a row's field without making a string of it.
func appendField(payload []byte, r row) []byte {
	payload = appendLength(payload, 0)
	start := len(payload)
	payload = flagcache.AppendField(payload, r.entity, r.key)
	binary.BigEndian.PutUint32(payload[start-4:], uint32(len(payload)-start))
	return payload
}

func appendTokens(payload []byte, tokens []tokenOp, remove bool) []byte {
	n := 0
	for _, op := range tokens {
		if op.remove == remove {
			n++
		}
	}
	payload = appendList(payload, 2*n)
	for _, op := range tokens {
		if op.remove == remove {
			payload = appendDigits(appendText(payload, op.token), op.team)
		}
	}
	return payload
}

// The payload of a script is MessagePack, which Redis decodes faster than Lua could walk through arguments. These are the types that it needs.
const (
	packShortText = 0xa0 // fixstr: the length, below 32, is part of the byte
	packNumber    = 0xce // uint 32
	packText      = 0xdb // str 32: the length follows in four bytes
	packList      = 0xdd // array 32, likewise
)

// maxShortText is how long a text may be whose length is part of its first byte.
const maxShortText = 31

func appendList(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, packList), uint32(n))
}

func appendNumber(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, packNumber), uint32(n))
}

// appendDigits appends a number as text. It has at most 20 digits, which a short text holds.
func appendDigits(dst []byte, n int64) []byte {
	dst = append(dst, 0)
	start := len(dst)
	dst = strconv.AppendInt(dst, n, 10)
	dst[start-1] = packShortText | byte(len(dst)-start)
	return dst
}

func appendText(dst []byte, text string) []byte {
	if len(text) <= maxShortText {
		return append(append(dst, packShortText|byte(len(text))), text...)
	}
	return append(appendLength(dst, len(text)), text...)
}

// appendLength begins a text of n bytes that follow.
func appendLength(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, packText), uint32(n))
}
