package server

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Kind says where a server may come from.
type Kind string

// The kinds of server.
const (
	Any    Kind = ""       // Docker if it answers, else Local
	Docker Kind = "docker" // a container, through testcontainers-go
	Local  Kind = "local"  // binaries on this machine
)

// MissingError says that no server of a kind can be started here.
type MissingError struct {
	What   string // e.g. "Postgres 16"
	Looked string // where, or why not
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("no %s here (looked at: %s)", e.What, e.Looked)
}

// firstOf tries a container, then local binaries, or only what the kind says. A container that is there but fails is an error, not a reason to go on.
func firstOf[T any](kind Kind, container, local func() (T, error)) (T, error) {
	switch kind {
	case Docker:
		return container()
	case Local:
		return local()
	}
	made, errContainer := container()
	if _, missing := errors.AsType[*MissingError](errContainer); !missing {
		return made, errContainer
	}
	made, err := local()
	if lack, missing := errors.AsType[*MissingError](err); missing {
		return made, &MissingError{What: lack.What, Looked: lack.Looked + "; and containers: " + errContainer.Error()}
	}
	return made, err
}

// CacheDir is where prepared data directories and downloaded servers are kept between runs. The unprivileged user must be able to read it, so root does
// not use its home directory.
func CacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/everflag", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "everflag"), nil
}

// findPostgres returns the directory of the Postgres binaries of a major version and the full version. If version is empty it takes the newest that the
// system has installed, and downloaded ones only if the system has none.
func findPostgres(version string) (bin, full string, err error) {
	bestMajor := 0
	dirs := postgresDirs(version)
	for _, dir := range dirs {
		candidate, major := postgresVersion(dir)
		if version != "" && strconv.Itoa(major) == version {
			return dir, candidate, nil
		}
		if version == "" && major > bestMajor {
			bin, full, bestMajor = dir, candidate, major
		}
	}
	if bin == "" {
		looked := append([]string{"PATH", "/usr/lib/postgresql/*/bin"}, dirs...)
		return "", "", &MissingError{What: strings.TrimSpace("Postgres " + version), Looked: strings.Join(looked, ", ")}
	}
	return bin, full, nil
}

// postgresDirs lists the directories that hold both postgres and initdb, those of the system first.
func postgresDirs(version string) []string {
	dirs := systemPostgresDirs()
	cache, err := CacheDir()
	if err != nil || version == "" && len(dirs) > 0 {
		return dirs
	}
	downloaded, _ := filepath.Glob(filepath.Join(cache, "postgres", cmp.Or(version, "*"), "bin")) // the only error is a malformed pattern
	return append(dirs, downloaded...)
}

func systemPostgresDirs() []string {
	patterns := []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin"}
	var dirs []string
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // the only error is a malformed pattern
		dirs = append(dirs, found...)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		// Follow links and skip wrapper scripts in other places: initdb must stand beside postgres.
		if path, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool {
		return !executable(filepath.Join(dir, "postgres")) || !executable(filepath.Join(dir, "initdb"))
	})
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// postgresVersion returns for example "15.14" and 15, or nothing if the binary does not run.
func postgresVersion(bin string) (string, int) {
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", 0
	}
	fields := strings.Fields(string(out)) // postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)
	if len(fields) < 3 {
		return "", 0
	}
	leading := fields[2]
	if end := strings.IndexFunc(leading, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		leading = leading[:end] // 18beta1, 15.14
	}
	major, err := strconv.Atoi(leading)
	if err != nil {
		return "", 0
	}
	return fields[2], major
}

func findRedis() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", &MissingError{What: "Redis", Looked: "PATH for redis-server and valkey-server"}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
