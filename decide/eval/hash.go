package eval

import (
	"crypto/sha1"
	"encoding/binary"
)

// hashRange is float64(0xFFFFFFFFFFFFFFF), which rounds to 2^60.
const hashRange = float64(1 << 60)

// unit maps a SHA-1 sum to [0, 1]: its first 15 hexadecimal digits over the largest such number.
func unit(sum [sha1.Size]byte) float64 {
	return float64(binary.BigEndian.Uint64(sum[:8])>>4) / hashRange
}
