package replication

import (
	"strings"
	"testing"
)

func TestCopyStreamAndResume(t *testing.T) { // F19
	t.Parallel()
	b := small(t)
	b.neverAhead()
	r := b.start()
	b.equal()
	b.exec("UPDATE posthog_featureflag SET active = false WHERE key = 'a'")
	b.exec("INSERT INTO posthog_featureflag (key, team_id) VALUES ('d', 2)")
	b.exec("DELETE FROM posthog_featureflag WHERE key = 'b'")
	b.equal()
	r.stop()
	b.exec("UPDATE posthog_team SET api_token = 'phc_new' WHERE id = 2")
	b.exec("INSERT INTO posthog_cohort (team_id, name) VALUES (1, 'grown-ups')")
	before := b.sink.count("exact")
	b.start()
	b.equal()
	if after := b.sink.count("exact"); after != before {
		t.Errorf("a restart reconciled: %s", strings.Join(b.sink.history(), "; "))
	}
}
