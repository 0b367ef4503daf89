package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://app:s3cret@db:5432/posthog":           "postgres://app:xxxxx@db:5432/posthog",
		"redis://:s3cret@cache:6379/0 and more":           "redis://:xxxxx@cache:6379/0 and more",
		"rediss://u:p@ss@cache/0":                         "rediss://u:xxxxx@cache/0",
		"redis+sentinel://u:s3cret@h1,h2/master":          "redis+sentinel://u:xxxxx@h1,h2/master",
		"host=db user=app password=s3cret dbname=posthog": "host=db user=app password=xxxxx dbname=posthog",
		"host=db password='s3 cret' sslmode=require":      "host=db password=xxxxx sslmode=require",
		"postgres://db/x?sslpassword=s3cret&sslmode=off":  "postgres://db/x?sslpassword=xxxxx&sslmode=off",
		"key phs_s3cret and phx_s3cret, but phc_public":   "key xxxxx and xxxxx, but phc_public",
		"reading http://127.0.0.1:9464/status: no answer": "reading http://127.0.0.1:9464/status: no answer",
		"no secret here: 12:30@noon, user a@b.example":    "no secret here: 12:30@noon, user a@b.example",
	} {
		if got := Redact(text); got != want {
			t.Errorf("Redact(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestNoSecretReachesTheLog(t *testing.T) { // F75
	var out bytes.Buffer
	log, _, err := New(&out, "info", formatAuto)
	if err != nil {
		t.Fatal(err)
	}
	url := "postgres://app:s3cret@db/posthog"
	log.With(zap.String("with", url)).Info("connecting to "+url, zap.String("url", url), zap.Error(errors.New("dial "+url)))
	if strings.Contains(out.String(), "s3cret") || strings.Count(out.String(), "xxxxx") != 4 {
		t.Errorf("log line: %s", out.String())
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Errorf("not a terminal, so JSON was wanted: %v", err)
	}
}

func TestLevelAtRunTime(t *testing.T) {
	var out bytes.Buffer
	log, level, err := New(&out, "warn", formatConsole)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hidden")
	request := httptest.NewRequest(http.MethodPut, "/log/level", strings.NewReader(`{"level":"debug"}`))
	level.ServeHTTP(httptest.NewRecorder(), request)
	log.Debug("shown")
	if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "shown") {
		t.Errorf("log: %q", got)
	}
	if _, _, err := New(&out, "loud", formatJSON); err == nil {
		t.Error("New took a level that does not exist")
	}
}
