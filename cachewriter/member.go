package cachewriter

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"

	"github.com/everflag/everflag/internal/flagcache"
)

// appendDigest appends the JSON string of the hexadecimal SHA-256 of a secret.
func appendDigest(dst, secret []byte) []byte {
	digest := sha256.Sum256(secret)
	dst = append(dst, '"')
	dst = hex.AppendEncode(dst, digest[:])
	return append(dst, '"')
}

// member returns the raw bytes of a member of a record, nil if there is none. It relies on the record being JSON, as the writer's own records are, and
// returns nil where it finds that it is not. A decoder of encoding/json would check every byte of documents that are only passed on.
func member(record []byte, name string) []byte {
	var quoted [64]byte
	want := flagcache.AppendString(quoted[:0], []byte(name))
	i := skipSpace(record, 0)
	if i >= len(record) || record[i] != '{' {
		return nil
	}
	for i++; ; i++ {
		key := skipSpace(record, i)
		colon := skipSpace(record, skipValue(record, key))
		if colon >= len(record) || record[colon] != ':' {
			return nil
		}
		start := skipSpace(record, colon+1)
		end := skipValue(record, start)
		if end > len(record) || end == start {
			return nil
		}
		if bytes.HasPrefix(record[key:colon], want) {
			return record[start:end]
		}
		if i = skipSpace(record, end); i >= len(record) || record[i] != ',' {
			return nil
		}
	}
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the JSON value that starts at i; beyond the end of text if it does not end there.
func skipValue(text []byte, i int) int {
	for depth := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			if i = skipString(text, i); depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ':', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(text) + 1
}

// skipString returns the position of the quote that ends the string which starts at i.
func skipString(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(text)
}
