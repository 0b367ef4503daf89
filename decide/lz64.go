package decide

import (
	"strings"
	"unicode/utf16"
)

// lzAlphabet is that of LZString.compressToBase64.
const lzAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// lzDecodeBase64 undoes LZString.compressToBase64, which posthog-js used until 2021.
func lzDecodeBase64(text string) (string, error) {
	text = strings.TrimRight(strings.ReplaceAll(text, " ", "+"), "=")
	bits := lzBits{text: text}
	kind := bits.take(2)
	if kind == lzEnd || bits.failed {
		return "", errLZ64
	}
	first := []uint16{uint16(bits.take(8 << kind))}
	dictionary := [][]uint16{nil, nil, nil, first} // 0, 1 and 2 are codes
	out := append([]uint16(nil), first...)
	last, width, enlargeIn := first, 3, 4
	for !bits.failed {
		code := bits.take(width)
		switch {
		case bits.failed:
			return "", errLZ64
		case code == lzEnd:
			return string(utf16.Decode(out)), nil
		case code == lz8, code == lz16:
			dictionary = append(dictionary, []uint16{uint16(bits.take(8 << code))})
			code = len(dictionary) - 1
			enlargeIn--
		}
		if enlargeIn == 0 {
			enlargeIn, width = 1<<width, width+1
		}
		var entry []uint16
		switch {
		case code < len(dictionary):
			entry = dictionary[code]
		case code == len(dictionary):
			entry = append(last[:len(last):len(last)], last[0])
		default:
			return "", errLZ64
		}
		if out = append(out, entry...); 2*len(out) > maxInflatedBody {
			return "", errTooLarge
		}
		dictionary = append(dictionary, append(last[:len(last):len(last)], entry[0]))
		if enlargeIn--; enlargeIn == 0 {
			enlargeIn, width = 1<<width, width+1
		}
		last = entry
	}
	return "", errLZ64
}

// The codes that are not entries of the dictionary: a new character of 8 or of 16 bits, and the end.
const (
	lz8   = 0
	lz16  = 1
	lzEnd = 2
)

// lzBits reads numbers, lowest bit first, from base64 letters, highest bit first.
type lzBits struct {
	text   string
	bit    int // position in the letter
	failed bool
}

func (b *lzBits) take(n int) int {
	value := 0
	for i := range n {
		if b.text == "" {
			b.failed = true
			return lzEnd
		}
		letter := strings.IndexByte(lzAlphabet, b.text[0])
		if letter < 0 {
			b.failed = true
			return lzEnd
		}
		value |= letter >> (5 - b.bit) & 1 << i
		if b.bit++; b.bit == 6 {
			b.bit, b.text = 0, b.text[1:]
		}
	}
	return value
}
