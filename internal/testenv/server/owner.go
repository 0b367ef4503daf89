package server

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// owner is the unprivileged user that Postgres, which refuses to run as root, is given. A nil owner means the current user.
type owner struct{ uid, gid int }

// unprivileged returns the user for Postgres: nil unless this process is root.
func unprivileged() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, fmt.Errorf("reading the user id of %q: %w", name, err)
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return nil, fmt.Errorf("reading the group id of %q: %w", name, err)
		}
		return &owner{uid: uid, gid: gid}, nil
	}
	return nil, &MissingError{What: "an unprivileged user", Looked: "postgres, nobody; Postgres does not run as root"}
}

// take makes path belong to the owner.
func (o *owner) take(path string) error {
	if o == nil {
		return nil
	}
	return os.Lchown(path, o.uid, o.gid)
}

// attributes are those of a server process: a group of its own, so that Ctrl-C on the terminal is for the test and not for its servers.
func (o *owner) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if o != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	return attr
}
