package testenv

import (
	"os"
	"testing"
)

// Golden wants the text to be that of the file. EVERFLAG_UPDATE=1 writes the file anew.
func Golden(t testing.TB, path, text string) {
	t.Helper()
	if os.Getenv("EVERFLAG_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("it differs from %s:\n%s", path, text)
	}
}
