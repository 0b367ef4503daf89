package change

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the write-ahead log, in bytes. The zero LSN means "none".
type LSN uint64

// ParseLSN reads the form that Postgres prints, "16/B374D848".
func ParseLSN(text string) (LSN, error) {
	high, low, found := strings.Cut(text, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !found || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("parsing LSN %q: want two hexadecimal numbers of 32 bits with a slash between", text)
	}
	return LSN(h<<32 | l), nil
}

// String prints the LSN as Postgres does.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}
