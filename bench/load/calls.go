//go:build linux

package main

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls are raw, so that the Go runtime does not know that the thread waits: it would hand the right to run Go code to another thread and back, for up
// to 13 ms when all of them have the same real-time priority.

// poll waits for one of the files, for at most a span.
func poll(files []unix.PollFd, wait time.Duration) error {
	timeout := unix.NsecToTimespec(int64(wait))
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&files[0])), uintptr(len(files)), uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// transfer reads or writes without waiting.
func transfer(call uintptr, fd int32, data []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
