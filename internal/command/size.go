package command

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes with an optional unit: 64MiB, 1GiB, 500kB, 1024.
func ParseSize(text string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(text), "kmgtib ")
	unit := strings.TrimSpace(strings.ToLower(text)[len(digits):])
	factor, known := map[string]int64{
		"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}[unit]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !known || n < 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("%q is no size: write it like 512MiB or 1GiB", text)
	}
	return n * factor, nil
}
