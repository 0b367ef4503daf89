//go:build killpoints

package killpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// variable names a stage and how often it is passed before the process dies there: "apply:17".
const variable = "EVERFLAG_KILLPOINT"

var chosen, remaining = parse(os.Getenv(variable))

func parse(text string) (stage string, remaining *atomic.Int64) {
	stage, count, _ := strings.Cut(text, ":")
	n, _ := strconv.ParseInt(count, 10, 64) // without a number the first hit is deadly
	remaining = new(atomic.Int64)
	remaining.Store(n)
	return stage, remaining
}

// Hit ends the process without any chance to clean up when the chosen stage has been passed often enough.
func Hit(stage string) {
	if stage == chosen && remaining.Add(-1) < 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // it cannot fail for the process itself
		select {}
	}
}
