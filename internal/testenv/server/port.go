package server

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// given remembers the ports handed out by this process, which stay reserved while their server is down.
var given sync.Map

// FreePort returns a port of the loopback interface that nothing listens on. It lies below the range that systems take for outgoing connections: a port
// from that range could be lost to any client while a server that a test stopped is down.
func FreePort() (int, error) {
	for range 200 {
		port := 12000 + rand.IntN(20000)
		if _, taken := given.LoadOrStore(port, true); taken {
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
	return 0, errors.New("no free port between 12000 and 32000")
}
