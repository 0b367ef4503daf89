package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// action is what copyTree does with an entry.
type action int

const (
	take    action = iota // copy; it is an error if the target has the file
	replace               // copy over what the target has
	skip                  // leave out, with everything below
)

func everything(string, fs.DirEntry) action { return take }

// copyTree copies directories and plain files and gives them to the owner. The choice is asked with the path below from, e.g. "/pg_wal". Files that vanish
// meanwhile are left out: a running server removes some, and whoever copies one knows that.
func copyTree(from, to string, o *owner, choose func(path string, entry fs.DirEntry) action) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil
		}
		if err != nil {
			return err
		}
		relative := strings.TrimPrefix(path, from)
		what := choose(relative, entry)
		if what == skip {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		target := filepath.Join(to, relative)
		if err := copyEntry(path, target, entry, what); err != nil {
			if _, gone := os.Lstat(path); errors.Is(gone, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		return o.take(target)
	})
}

func copyEntry(path, target string, entry fs.DirEntry, what action) error {
	switch {
	case entry.IsDir():
		if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return os.Chmod(target, 0o700)
	case entry.Type().IsRegular():
		return copyFile(path, target, what)
	default:
		return fmt.Errorf("copying %q: neither file nor directory", path)
	}
}

func copyFile(from, to string, what action) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	exists := os.O_EXCL
	if what == replace {
		exists = os.O_TRUNC
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|exists, 0o600)
	if err != nil {
		return err
	}
	if _, err := out.ReadFrom(in); err != nil { // copy_file_range where the kernel has it
		return errors.Join(err, out.Close())
	}
	return out.Close()
}
