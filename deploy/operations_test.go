package deploy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/everflag/everflag/internal/testenv"
)

// aclUsers are the lines of an ACL file by user, without state and password.
func aclUsers(t *testing.T, text string) map[string][]string {
	t.Helper()
	users := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^user (\S+) on >\S+ (.*)$`).FindAllStringSubmatch(text, -1) {
		users[m[1]] = strings.Fields(m[2])
	}
	if users["replicator"] == nil || users["decide"] == nil {
		t.Fatal("no users replicator and decide")
	}
	return users
}

func TestUsersAreThoseOfTheDocument(t *testing.T) {
	documented, used := aclUsers(t, read(t, "../docs/operations.md")), aclUsers(t, read(t, "redis/users.acl"))
	for _, user := range []string{"replicator", "decide"} {
		if got, want := fmt.Sprint(used[user]), fmt.Sprint(documented[user]); got != want {
			t.Errorf("%s in deploy/redis/users.acl: %s\nin docs/operations.md: %s", user, got, want)
		}
	}
}

// TestLeastPrivilege does what docs/operations.md says: a database that is there already, a role from the printed SQL, users from the document, and nothing more.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	replicator, decide := testenv.Build(t, "cmd/replicator"), testenv.Build(t, "cmd/decide")
	pg := testenv.PostgresServer(t, testenv.PGOptions{})
	db := pg.Database(t)
	testenv.LoadSchema(t, db, testenv.Schema2026)
	testenv.LoadSeed(t, db, testenv.Schema2026)
	printed, err := exec.Command(replicator, "--postgres-url", db.URL, "setup", "--print-sql", "--role", "flagreader").Output()
	if err != nil {
		t.Fatalf("printing the SQL: %v", err)
	}
	for _, statement := range strings.SplitAfter(string(printed), ";\n") { // one by one, as psql does
		db.Exec(t, statement)
	}

	rd := testenv.RedisServer(t, testenv.RedisOptions{})
	client := rd.Client(t)
	for user, rules := range aclUsers(t, read(t, "../docs/operations.md")) {
		command := []any{"ACL", "SETUSER", user, "on", ">secret"}
		for _, rule := range rules {
			command = append(command, rule)
		}
		if err := client.Do(t.Context(), command...).Err(); err != nil {
			t.Fatalf("user %s: %v", user, err)
		}
	}
	settings := []string{
		"REPLICATOR_POSTGRES_URL=" + as(t, db.URL, "flagreader", "change me"), "REPLICATOR_REDIS_URL=" + as(t, rd.URL, "replicator", "secret"), "REPLICATOR_NO_SETUP=true",
	}

	check := testenv.Run(t, replicator, settings, "check", "--json")
	if code := check.Wait(t); code != 0 {
		t.Fatalf("check exits with %d: %s", code, check.Stdout())
	}
	replicatorAdmin, decideAdmin, flags := "127.0.0.1:"+testenv.FreePort(t), "127.0.0.1:"+testenv.FreePort(t), "127.0.0.1:"+testenv.FreePort(t)
	testenv.Run(t, replicator, settings, "run", "--admin-addr", replicatorAdmin)
	testenv.Run(t, decide, []string{"DECIDE_REDIS_URL=" + as(t, rd.URL, "decide", "secret")}, "serve", "--admin-addr", decideAdmin, "--addr", flags)
	for _, address := range []string{replicatorAdmin, decideAdmin} {
		testenv.Eventually(t, 20*time.Second, func() error { return get("http://" + address + "/readyz") })
	}
	db.Exec(t, "UPDATE posthog_featureflag SET key = 'renamed-flag' WHERE id = (SELECT min(id) FROM posthog_featureflag WHERE team_id = 1 AND active AND NOT deleted)")
	testenv.Eventually(t, 10*time.Second, func() error { return mentions(flags, "renamed-flag") })

	verify := testenv.Run(t, replicator, settings, "verify")
	if code := verify.Wait(t); code != 0 {
		t.Errorf("verify exits with %d: %s", code, verify.Stdout())
	}
	if denied, err := client.Do(t.Context(), "ACL", "LOG").Slice(); err != nil || len(denied) > 0 {
		t.Errorf("Redis denied something: %v %v", denied, err)
	}
}

// as returns the address with other credentials.
func as(t *testing.T, address, user, password string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func get(address string) error {
	response, err := http.Get(address) //nolint:gosec,noctx // because it is an address of this test, which bounds it
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // nothing is left in it
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s", address, response.Status, body)
	}
	return err
}

// mentions asks for the demo team's flags and looks for a key.
func mentions(address, key string) error {
	body := strings.NewReader(`{"token":"` + testenv.DemoToken + `","distinct_id":"ada"}`)
	response, err := http.Post("http://"+address+"/flags/?v=2", "application/json", body) //nolint:gosec,noctx // as in get
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // nothing is left in it
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if !strings.Contains(string(answer), `"`+key+`"`) {
		return fmt.Errorf("no flag %q: %s %.300s", key, response.Status, answer)
	}
	return nil
}
