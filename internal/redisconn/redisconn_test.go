package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everflag/everflag/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestParse(t *testing.T) {
	for text, want := range map[string]address{
		"redis://":                       {network: "tcp", hosts: []string{"localhost:6379"}},
		"redis://h":                      {network: "tcp", hosts: []string{"h:6379"}},
		"redis://:p%40%2F@h:1/2":         {network: "tcp", hosts: []string{"h:1"}, password: "p@/", db: 2},
		"redis://u:p@q@[::1]:1?db=3":     {network: "tcp", hosts: []string{"[::1]:1"}, user: "u", password: "p@q", db: 3},
		"redis://[::1]":                  {network: "tcp", hosts: []string{"[::1]:6379"}},
		"rediss://h/":                    {network: "tcp", secure: true, hosts: []string{"h:6379"}},
		"unix:///run/redis.sock?db=1":    {network: "unix", hosts: []string{"/run/redis.sock"}, db: 1},
		"unix://u:p@/run/redis.sock":     {network: "unix", hosts: []string{"/run/redis.sock"}, user: "u", password: "p"},
		"redis+cluster://u:p@a,b:7000":   {kind: kindCluster, hosts: []string{"a:6379", "b:7000"}, user: "u", password: "p"},
		"rediss+sentinel://a,b:7/main/4": {kind: kindSentinel, secure: true, hosts: []string{"a:26379", "b:7"}, master: "main", db: 4},
		"redis+sentinel://a/m?sentinel_user=x&sentinel_password=y&db=5": {
			kind: kindSentinel, hosts: []string{"a:26379"}, master: "m", db: 5, sentinelUser: "x", sentinelPassword: "y",
		},
	} {
		got, err := parse(text)
		if err != nil {
			t.Errorf("parse(%q): %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, *got, cmp.AllowUnexported(address{})); diff != "" {
			t.Errorf("parse(%q) (-want +got):\n%s", text, diff)
		}
	}
}

// Errors name the setting and what to do, and show no password.
func TestOpenErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "is not set",
		"localhost:6379":                   "want redis://",
		"http://u:hunter2@h":               "want redis://",
		"redis://u:hunter2%zz@h":           "%25",
		"redis://u:hunter2@h:port":         "host:port",
		"redis://u:hunter2@h:0":            "host:port",
		"redis://u:hunter2@h:1:2":          "host:port",
		"redis://u:hunter2@a,b":            "redis+sentinel://",
		"redis://u:hunter2@a/x":            "number",
		"redis://u:hunter2@a/-1":           "number",
		"redis://u:hunter2@a?pool=3":       `"pool"`,
		"redis://u:hunter2@a?%zz":          "percent-encoded",
		"unix://u:hunter2@run/redis.sock":  "three slashes",
		"unix://":                          "three slashes",
		"redis+sentinel://u:hunter2@a":     "master",
		"redis+sentinel://u:hunter2@/m":    "host",
		"redis+cluster://u:hunter2@a/1":    "no databases",
		"redis+cluster://u:hunter2@a?db=1": `"db"`,
	} {
		_, err := Open(Config{URL: text})
		if err == nil || !strings.HasPrefix(err.Error(), "--redis-url: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q) = %v, want --redis-url: …%s…, without the password", text, err, want)
		}
	}
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ url, file, want string }{
		{"redis://h", empty, "rediss://"}, {"rediss://h", empty, "no certificate"}, {"rediss://h", empty + "x", "no such file"},
	} {
		_, err := Open(Config{URL: test.url, CAFile: test.file})
		if err == nil || !strings.HasPrefix(err.Error(), "--redis-ca: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open with %s = %v, want --redis-ca: …%s…", test.file, err, test.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for text, check := range map[string]func(redis.UniversalClient) bool{
		"rediss://u:p@h:1/2": func(c redis.UniversalClient) bool {
			o := c.(*redis.Client).Options()
			return o.Username == "u" && o.Password == "p" && o.DB == 2 && o.TLSConfig.ServerName == "h" && o.TLSConfig.MinVersion == tls.VersionTLS12 && o.MaxRetries == 0
		},
		"redis+cluster://u:p@a,b": func(c redis.UniversalClient) bool {
			o := c.(*redis.ClusterClient).Options()
			return cmp.Equal(o.Addrs, []string{"a:6379", "b:6379"}) && o.Username == "u" && o.TLSConfig == nil
		},
		"redis+sentinel://u:p@a/m/1": func(c redis.UniversalClient) bool {
			o := c.(*redis.Client).Options()
			return o.Username == "u" && o.Password == "p" && o.DB == 1
		},
	} {
		client, err := Open(Config{URL: text})
		if err != nil {
			t.Errorf("Open(%q): %v", text, err)
			continue
		}
		if !check(client) {
			t.Errorf("Open(%q): not the options that it asks for", text)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The client sends a command once, whatever becomes of it, and a context bounds it.
func TestNoRetriesAndDeadlines(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	client, err := Open(Config{URL: server.URL, ClientName: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if name, err := client.ClientGetName(t.Context()).Result(); name != "test" || err != nil {
		t.Errorf("client name %q, %v", name, err)
	}
	proxy := testenv.Proxy(t, server.Client(t).Options().Addr)
	behind, err := Open(Config{URL: proxy.URL(server.URL)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = behind.Close() })
	key := server.Prefix + "n"
	if err := behind.Incr(t.Context(), key).Err(); err != nil {
		t.Fatal(err)
	}
	proxy.HalfClose()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = behind.Incr(ctx, key).Err()
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("a swallowed reply: %v, want a time-out", err)
	}
	if n := client.Get(t.Context(), key).Val(); n != "2" {
		t.Errorf("the command ran %s times, want once", n)
	}
}

// A password that is changed is read again for the next connection.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	rd := testenv.RedisServer(t, testenv.RedisOptions{Conf: map[string]string{"requirepass": "first"}})
	now := rd.URL
	client, err := Open(Config{URL: rd.URL, ReadURL: func() (string, error) { return now, nil }, PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "requirepass", "second").Err(); err != nil {
		t.Fatal(err)
	}
	_ = client.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "no").Err() // it may end before it answers
	testenv.Eventually(t, 5*time.Second, func() error {
		if err := client.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
			return fmt.Errorf("the former password is answered with %w", err)
		}
		return nil
	})
	now = strings.Replace(rd.URL, "first", "second", 1)
	testenv.Eventually(t, 5*time.Second, func() error { return client.Ping(t.Context()).Err() })
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t, testenv.RedisOptions{})
	if server.Socket == "" {
		t.Skip("a server in a container has no socket here")
	}
	client, err := Open(Config{URL: "unix://" + server.Socket})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

// However many attempts have failed, the first one after the server's return works. S10.
func TestFirstAttemptAfterReturn(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t, testenv.RedisOptions{})
	client, err := Open(Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	for range 3 {
		server.Kill(t)
		for n := range 20 {
			if err := client.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "dial") && n > 0 {
				t.Fatalf("attempt %d without a server: %v, want the error of the dial", n, err)
			}
		}
		server.Start(t)
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Errorf("first attempt after the return: %v", err)
		}
	}
}
