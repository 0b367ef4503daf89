package command

import (
	"os"
	"strings"
)

// SecretReader returns a function that reads a setting with the tag `secret` again from the file that it came from, since secrets are rotated; nil if it
// came from elsewhere. variable is that of the setting, value what was read at the start.
func SecretReader(variable, value string) func() (string, error) {
	path := os.Getenv(variable + "_FILE")
	if path == "" {
		return nil
	}
	if content, err := readSecret(path); err != nil || content != value { // a flag or the plain variable goes before the file
		return nil
	}
	return func() (string, error) { return readSecret(path) }
}

func readSecret(path string) (string, error) {
	content, err := os.ReadFile(path)
	return strings.TrimSpace(string(content)), err
}
