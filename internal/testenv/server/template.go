package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// initdbOptions make the clusters; they are part of the template's name. UTF-8 with the C collation, which every build has.
var initdbOptions = []string{
	"--username=" + User, "--encoding=UTF8", "--locale=C", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions",
}

// newDataDir makes a data directory at target. initdb costs a second, a copy a tenth of that: each version is initialised once per machine and copied
// from then on.
func newDataDir(ctx context.Context, bin, full, target string, o *owner) error {
	template, err := template(ctx, bin, full, o)
	if err != nil {
		return fmt.Errorf("preparing the template data directory: %w", err)
	}
	return copyTree(template, target, o)
}

// template returns the data directory to copy from, making it first if this machine has none.
func template(ctx context.Context, bin, full string, o *owner) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(bin + strings.Join(initdbOptions, " ") + Password))
	final := filepath.Join(cache, "data", full+"-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(filepath.Join(final, "PG_VERSION")); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return "", err
	}
	// Made aside and renamed: whoever comes at the same time makes one too, and the slower of the two is thrown away.
	aside, err := os.MkdirTemp(filepath.Dir(final), "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(aside)
	if err := initdb(ctx, bin, aside, o); err != nil {
		return "", err
	}
	if err := os.Rename(aside, final); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return "", err
	}
	return final, nil
}

func initdb(ctx context.Context, bin, dir string, o *owner) error {
	if err := o.take(dir); err != nil {
		return err
	}
	secret, err := os.CreateTemp("", "everflag-pw-")
	if err != nil {
		return err
	}
	defer os.Remove(secret.Name())
	if _, err := secret.WriteString(Password + "\n"); err != nil {
		return err
	}
	if err := errors.Join(o.take(secret.Name()), secret.Close()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), append(initdbOptions, "--pgdata="+dir, "--pwfile="+secret.Name())...)
	cmd.SysProcAttr, cmd.Dir = o.attributes(), "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w\n%s", err, tail(string(out)))
	}
	return nil
}

// copyTree copies directories and plain files and gives them to the owner.
func copyTree(from, to string, o *owner) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case entry.IsDir():
			if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := os.Chmod(target, 0o700); err != nil {
				return err
			}
		case entry.Type().IsRegular():
			if err := copyFile(path, target); err != nil {
				return err
			}
		default:
			return fmt.Errorf("copying %q: neither file nor directory", path)
		}
		return o.take(target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := out.ReadFrom(in); err != nil { // copy_file_range where the kernel has it
		return errors.Join(err, out.Close())
	}
	return out.Close()
}
