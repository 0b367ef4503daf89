package eval

import (
	"crypto/sha1"
	"encoding"
	"encoding/binary"
	"hash"
)

// hashRange is float64(0xFFFFFFFFFFFFFFF), which rounds to 2^60.
const hashRange = float64(1 << 60)

// unit maps the first 8 bytes of a SHA-1 sum to [0, 1]: the first 15 hexadecimal digits over the largest such number.
func unit(sum uint64) float64 {
	return float64(sum>>4) / hashRange
}

// hash is where an identifier lies between 0 and 1. The empty one lies at 0.
func (s *Scratch) hash(prefix, id, salt string) float64 {
	if id == "" {
		return 0
	}
	return s.hashAll(prefix, id, salt)
}

func (s *Scratch) hashAll(prefix, id, salt string) float64 {
	return unit(s.sha1.sum(prefix, id, salt))
}

const (
	blockSize  = sha1.BlockSize
	lengthSize = 8 // of the length at the end of the last block
	maxPadded  = 2 * blockSize
	stateAt    = 4 // where the state begins in a digest's binary form
)

// hasher computes SHA-1 sums. Short messages are padded here and given to a digest that is used again and again, which takes half the time of
// sha1.Sum: the sum is then the digest's state. The zero value is ready.
type hasher struct {
	digest hash.Hash
	state  encoding.BinaryAppender // of digest; nil if its binary form is not the one known here
	block  [maxPadded]byte
	binary []byte
	long   []byte // a message that block does not hold
}

// sum is the first 8 bytes of the sum of the parts, one after the other.
func (h *hasher) sum(prefix, id, salt string) uint64 {
	if h.digest == nil {
		h.init()
	}
	if h.state == nil || len(prefix)+len(id)+len(salt) >= maxPadded-lengthSize {
		h.long = append(append(append(h.long[:0], prefix...), id...), salt...)
		sum := sha1.Sum(h.long)
		return binary.BigEndian.Uint64(sum[:])
	}
	n := copy(h.block[:], prefix)
	n += copy(h.block[n:], id)
	n += copy(h.block[n:], salt)
	return h.padded(n)
}

// init makes the digest, and looks whether its binary form holds the state where it is expected.
func (h *hasher) init() {
	h.digest = sha1.New()
	h.state, _ = h.digest.(encoding.BinaryAppender)
	probe := "abc"
	want := sha1.Sum([]byte(probe))
	if h.state != nil && h.padded(copy(h.block[:], probe)) != binary.BigEndian.Uint64(want[:]) {
		h.state = nil
	}
}

// padded is the sum of the first n bytes of block, which leave room for the padding.
func (h *hasher) padded(n int) uint64 {
	size := blockSize
	if n >= blockSize-lengthSize {
		size = maxPadded
	}
	h.block[n] = 0x80
	clear(h.block[n+1 : size-lengthSize])
	binary.BigEndian.PutUint64(h.block[size-lengthSize:], uint64(n)*8)
	h.digest.Reset()
	h.digest.Write(h.block[:size]) // a hash never fails
	form, err := h.state.AppendBinary(h.binary[:0])
	if err != nil || len(form) < stateAt+8 {
		return 0 // found out by init
	}
	h.binary = form
	return binary.BigEndian.Uint64(form[stateAt:])
}
