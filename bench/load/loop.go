//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// loop is all connections, and what has been seen of them.
type loop struct {
	request []byte
	every   time.Duration // between two requests of a connection; 0: no rate is held

	conns  []conn
	polls  []unix.PollFd
	buf    [256 << 10]byte
	took   []time.Duration
	failed int
}

// conn is a connection with at most one request on its way.
type conn struct {
	due     time.Time // of the request on its way, or of the next one
	waiting bool      // for an answer
	head    []byte    // of the answer, with what came with its end
	body    int       // bytes that the answer lacks, or one of the following

	end [len(lastChunk)]byte // the newest bytes of a chunked answer
}

// What conn.body is while it does not count bytes.
const (
	inHead = -1 - iota
	inChunks
)

const lastChunk = "0\r\n\r\n"

func (l *loop) open(addr string, connections int) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	for range connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
			return fmt.Errorf("connecting to %s: %w", addr, err)
		}
		if err := errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)); err != nil {
			return err
		}
		l.polls = append(l.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		l.conns = append(l.conns, conn{head: make([]byte, 0, 4096)})
	}
	return nil
}

// run sends for a span, and returns how many seconds passed until the last answer.
func (l *loop) run(span time.Duration) (seconds float64, err error) {
	start := time.Now()
	for i := range l.conns {
		l.conns[i].due = start.Add(l.every * time.Duration(i) / time.Duration(len(l.conns)))
	}
	for {
		now := time.Now()
		ending := now.Sub(start) >= span
		wait, open := time.Second, 0
		for i := range l.conns {
			c := &l.conns[i]
			if !c.waiting && !ending {
				if early := c.due.Sub(now); early > 0 {
					wait = min(wait, early)
				} else if err := l.send(i); err != nil {
					return 0, err
				}
			}
			if c.waiting {
				open++
			}
		}
		if ending && open == 0 {
			return time.Since(start).Seconds(), nil
		}
		if err := poll(l.polls, wait); err != nil && err != unix.EINTR {
			return 0, err
		}
		for i := range l.polls {
			if l.polls[i].Revents != 0 {
				if err := l.receive(i); err != nil {
					return 0, err
				}
			}
		}
	}
}

// send sends a request, which fits into the buffer of an idle socket.
func (l *loop) send(i int) error {
	c := &l.conns[i]
	if l.every == 0 {
		c.due = time.Now()
	}
	if n, err := transfer(unix.SYS_WRITE, l.polls[i].Fd, l.request); err != nil {
		return fmt.Errorf("sending: %w", err)
	} else if n < len(l.request) {
		return fmt.Errorf("the socket took %d bytes of the %d of a request", n, len(l.request))
	}
	c.waiting, c.head, c.body = true, c.head[:0], inHead
	return nil
}

func (l *loop) receive(i int) error {
	c := &l.conns[i]
	n, err := transfer(unix.SYS_READ, l.polls[i].Fd, l.buf[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return err
	case n == 0:
		return errors.New("the server closed the connection")
	case c.body == inHead:
		if done, err := c.begin(l.buf[:n]); err != nil || !done {
			return err
		}
	case c.body == inChunks:
		c.keep(l.buf[:n])
	default:
		c.body -= n
	}
	if c.body > 0 || c.body == inChunks && string(c.end[:]) != lastChunk {
		return nil
	}
	l.took = append(l.took, time.Since(c.due))
	if !bytes.HasPrefix(c.head, []byte("HTTP/1.1 200")) {
		l.failed++
	}
	c.waiting, c.due = false, c.due.Add(l.every)
	return nil
}

// begin takes the head of an answer; done means that it is complete.
func (c *conn) begin(received []byte) (done bool, err error) {
	c.head = append(c.head, received...)
	end := bytes.Index(c.head, []byte("\r\n\r\n"))
	if end < 0 {
		return false, nil
	}
	head, body := c.head[:end+2], c.head[end+4:]
	if bytes.Contains(head, []byte("\r\nTransfer-Encoding: chunked\r\n")) {
		c.body, c.end = inChunks, [len(lastChunk)]byte{}
		c.keep(body)
		return true, nil
	}
	_, rest, found := bytes.Cut(head, []byte("\r\nContent-Length: "))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	if !found {
		return false, errors.New("an answer whose length is not told")
	}
	length, err := strconv.Atoi(string(value))
	c.body = length - len(body)
	return true, err
}

// keep remembers the newest bytes of a chunked answer: whether it is complete shows at its end, because nothing follows it.
func (c *conn) keep(received []byte) {
	n := min(len(received), len(c.end))
	copy(c.end[:], c.end[n:])
	copy(c.end[len(c.end)-n:], received[len(received)-n:])
}
