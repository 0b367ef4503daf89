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
		names += 1 + len(ops.removes) + len(ops.sets)
		records += len(ops.sets)
	}
	keys = append(make([]string, 0, 4+len(teams)), w.keys.Meta, w.keys.Teams, w.keys.Tokens, w.keys.Changes)
	payload := appendList(appendList(make([]byte, 0, 40*names+64*len(tokens)+64), 3), len(teams))
	all = append(make([]any, 0, len(args)+1+records), args...)
	all = append(all, nil)
	for _, ops := range teams {
		keys = append(keys, w.keys.Team(ops.team))
		payload = appendText(appendList(payload, 5), strconv.FormatInt(ops.team, 10))
		payload = appendText(appendText(payload, ops.mode), ops.version)
		payload = appendNumber(payload, len(ops.removes))
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
	return keys, all
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
			payload = appendText(appendText(payload, op.token), strconv.FormatInt(op.team, 10))
		}
	}
	return payload
}

// The payload of a script is MessagePack, which Redis decodes faster than Lua could walk through arguments.

func appendList(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0xdd), uint32(n))
}

func appendNumber(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(n))
}

func appendText(dst []byte, text string) []byte {
	if len(text) < 32 {
		return append(append(dst, 0xa0|byte(len(text))), text...)
	}
	return append(appendLength(dst, len(text)), text...)
}

func appendLength(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
}
