package main

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

const relayKey = "mob-00000000-0000-4000-8000-000000000000"

type archived struct {
	name    string
	content []byte
}

// writeRelayArchive writes the flags of the reference request in the form of ld-relay's offline mode (its internal/filedata): a tar of one environment's
// description, its data and a checksum.
func writeRelayArchive(path string, flags int) error {
	const id = "bench"
	environment := map[string]any{
		"env": map[string]any{
			"envID": id, "envKey": id, "envName": id, "projKey": id, "projName": id, "mobKey": relayKey, "version": 1,
			"sdkKey": map[string]any{"value": "sdk-00000000-0000-4000-8000-000000000000"},
		},
		"dataId": "1",
	}
	all := map[string]any{}
	for i := range flags {
		all[referenceKey(i)] = relayFlag(i)
	}
	var files []archived
	sum := md5.New() // as the format has it, over the files in the order of their names
	for _, file := range []struct {
		name  string
		value any
	}{{id + "-data.json", map[string]any{"flags": all}}, {id + ".json", environment}} {
		content, err := json.Marshal(file.value)
		if err != nil {
			return err
		}
		sum.Write(content)
		files = append(files, archived{file.name, content})
	}
	files = append(files, archived{"checksum.md5", sum.Sum(nil)})
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o600, Size: int64(len(f.content))}); err != nil {
			return err
		}
		if _, err := w.Write(f.content); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), os.WriteFile(path, archive.Bytes(), 0o600))
}

// relayFlag is what referenceFilters says, as LaunchDarkly has it.
func relayFlag(i int) map[string]any {
	clause := func(attribute, op string, value any) map[string]any {
		return map[string]any{"contextKind": "user", "attribute": attribute, "op": op, "values": []any{value}, "negate": false}
	}
	clauses := []any{clause("plan", "in", []string{"pro", "free", "team"}[i%3])}
	if i%2 == 0 {
		clauses = append(clauses, clause("age", "greaterThan", 18))
	}
	share := (50 + i%50) * 1000
	weights := []any{map[string]any{"variation": 1, "weight": share}, map[string]any{"variation": 0, "weight": 100_000 - share}}
	variations := []any{false, true}
	if i%10 == 0 {
		variations = []any{false, "control", "test"}
		weights = []any{
			map[string]any{"variation": 1, "weight": share / 2},
			map[string]any{"variation": 2, "weight": share / 2},
			map[string]any{"variation": 0, "weight": 100_000 - share},
		}
	}
	return map[string]any{
		"key": referenceKey(i), "version": 1, "on": true, "salt": referenceKey(i), "variations": variations, "offVariation": 0,
		"fallthrough":            map[string]any{"variation": 0},
		"clientSideAvailability": map[string]any{"usingMobileKey": true, "usingEnvironmentId": true},
		"rules": []any{map[string]any{
			"id": "rule", "clauses": clauses, "rollout": map[string]any{"contextKind": "user", "bucketBy": "key", "variations": weights},
		}},
	}
}

// proxyFlags are the flags of the reference request in the form of GO Feature Flag.
func proxyFlags(flags int) string {
	var text strings.Builder
	for i := range flags {
		query := fmt.Sprintf(`plan eq "%s"`, []string{"pro", "free", "team"}[i%3])
		if i%2 == 0 {
			query += " and age gt 18"
		}
		share := 50 + i%50
		variations, percentages := "    enabled: true\n    disabled: false\n", fmt.Sprintf("        enabled: %d\n        disabled: %d\n", share, 100-share)
		if i%10 == 0 {
			variations = "    control: \"control\"\n    test: \"test\"\n    disabled: \"off\"\n"
			percentages = fmt.Sprintf("        control: %[1]v\n        test: %[1]v\n        disabled: %[2]d\n", float64(share)/2, 100-share)
		}
		fmt.Fprintf(&text, "%s:\n  variations:\n%s  targeting:\n    - name: rule\n      query: %s\n      percentage:\n%s  defaultRule:\n    variation: disabled\n",
			referenceKey(i), variations, query, percentages)
	}
	return text.String()
}

// wholeAnswer returns the size of an answer after checking that it names that many flags.
func wholeAnswer(response *http.Response, flags int) (int, error) {
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if found := strings.Count(string(body), "reference-flag-number-"); response.StatusCode != http.StatusOK || found < flags {
		return 0, fmt.Errorf("the answer is %s with %d flags of %d: %.200s", response.Status, found, flags, body)
	}
	return len(body), nil
}
