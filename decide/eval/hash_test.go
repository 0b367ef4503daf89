package eval

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"testing"
)

func TestHasherIsSHA1(t *testing.T) {
	h := &hasher{}
	for n := range 300 { // over the lengths at which blocks are added, and back again
		for _, length := range []int{n, 300 - n} {
			message := bytes.Repeat([]byte{byte(n), 0x80, 0xff}, 100)[:length]
			want := sha1.Sum(message)
			text, cut, end := string(message), length/3, length/2
			if got := h.sum(text[:cut], text[cut:end], text[end:]); got != binary.BigEndian.Uint64(want[:]) {
				t.Fatalf("%d bytes: %x, want %x", length, got, want)
			}
		}
	}
	if h.state == nil {
		t.Error("the digest's binary form is not the one known: the hash takes twice the time")
	}
}
