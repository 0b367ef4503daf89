package server

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Ports lie below the range that systems take for outgoing connections: a port from that range could be lost to any client while a server that a test stopped
// is down.
const firstPort, ports = 12_000, 20_000

var (
	// given remembers the ports handed out by this process, which stay reserved while their server is down.
	given sync.Map
	// reservations is the same for other processes: a file of which each has locked the bytes whose numbers are its ports, until it ends.
	reservations = sync.OnceValues(func() (*os.File, error) {
		return os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("everflag-ports-%d", os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600)
	})
)

// FreePort returns a port of the loopback interface that nothing listens on and that no other caller is given while this process runs.
func FreePort() (int, error) {
	file, err := reservations()
	if err != nil {
		return 0, fmt.Errorf("reserving a port: %w", err)
	}
	for range 200 {
		port := firstPort + rand.IntN(ports)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(port), Len: 1}
		if unix.FcntlFlock(file.Fd(), unix.F_SETLK, &lock) != nil {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, err
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d", firstPort, firstPort+ports)
}
