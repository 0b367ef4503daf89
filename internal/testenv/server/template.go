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
// from then on. Each copy is given a system identifier of its own, for a replicator must be able to tell one server from another.
func newDataDir(ctx context.Context, bin, full, target string, o *owner) error {
	template, err := template(ctx, bin, full, o)
	if err != nil {
		return fmt.Errorf("preparing the template data directory: %w", err)
	}
	if err := copyTree(template, target, o, everything); err != nil {
		return err
	}
	if err := renewIdentity(target); err != nil {
		return fmt.Errorf("giving the copy an identity: %w", err)
	}
	return nil
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
