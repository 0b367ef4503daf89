package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/everflag/everflag/internal/command"
)

// Call asks a running program through its private listener, whose address is the setting --admin-url, and decodes its JSON answer.
func Call(ctx context.Context, baseURL, method, path string, answer any) error {
	code, body, err := exchange(ctx, baseURL, method, path)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("the program at --admin-url answered %d: %s", code, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("reading the answer of the program at --admin-url: %w", err)
	}
	return nil
}

// Ready asks a running program whether it is ready. The error of one that is not tells the reason.
func Ready(ctx context.Context, baseURL string) error {
	code, body, err := exchange(ctx, baseURL, http.MethodGet, "/readyz")
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("not ready: %s", strings.TrimSpace(string(body)))
	}
	return nil
}

func exchange(ctx context.Context, baseURL, method, path string) (code int, body []byte, err error) {
	if u, err := url.Parse(baseURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return 0, nil, command.BadSettingf("--admin-url", "%q is no address: write it like http://127.0.0.1:9464", baseURL)
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(baseURL, "/")+path, http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("--admin-url: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the address once more
	}
	if err != nil {
		return 0, nil, fmt.Errorf("no answer from %s, which is --admin-url: %w", baseURL, err)
	}
	defer func() { _ = response.Body.Close() }() // it has been read, or is of no use
	if body, err = io.ReadAll(response.Body); err != nil {
		return 0, nil, fmt.Errorf("asking the program at --admin-url: %w", err)
	}
	return response.StatusCode, body, nil
}
