package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/everflag/everflag/internal/change"
)

func TestJudgeSlot(t *testing.T) {
	t.Parallel()
	fine := slotState{exists: true, plugin: outputPlugin, database: "db", confirmed: 50}
	with := func(f func(*slotState)) slotState { s := fine; f(&s); return s }
	for name, test := range map[string]struct {
		slot slotState
		want action
	}{
		"fine":                      {fine, actStream},
		"missing (F64)":             {slotState{}, actRecreate},
		"lost (F63)":                {with(func(s *slotState) { s.lost = "wal_removed" }), actRecreate},
		"of another plugin":         {with(func(s *slotState) { s.plugin = "wal2json" }), actRefuse},
		"of another database":       {with(func(s *slotState) { s.database = "other" }), actRefuse},
		"physical":                  {with(func(s *slotState) { s.plugin, s.database = "", "" }), actRefuse},
		"in use (F20)":              {with(func(s *slotState) { s.activePID = 9 }), actStandBy},
		"beyond the log's end (F3)": {with(func(s *slotState) { s.confirmed = 101 }), actRecreate},
	} {
		if got := judgeSlot(test.slot, "db", 100); got.action != test.want || got.action != actStream && got.reason == "" {
			t.Errorf("%s: got %+v, want action %d", name, got, test.want)
		}
	}
}

func TestDecideStart(t *testing.T) { // F33
	t.Parallel()
	source := change.Source{
		SystemID: "1", Timeline: 1, DatabaseOID: 5, PostmasterStart: time.Unix(1000, 0), Slot: "s", Publication: "p", Fingerprint: "f",
	}
	normal := facts{
		position:  change.Position{Source: source, Schema: 1, Checkpoint: 60, Complete: true, Teams: 3},
		source:    source,
		schema:    1,
		confirmed: 50,
		walEnd:    100,
	}
	for name, test := range map[string]struct {
		with   func(*facts)
		want   action
		verify bool
	}{
		"normal":                           {func(*facts) {}, actStream, false},
		"checkpoint equals confirmed":      {func(f *facts) { f.confirmed = 60 }, actStream, false},
		"checkpoint equals the end":        {func(f *facts) { f.walEnd = 60 }, actStream, false},
		"empty cache":                      {func(f *facts) { f.position = change.Position{} }, actReconcile, false},
		"teams without checkpoint (F69)":   {func(f *facts) { f.position.Checkpoint = 0 }, actReconcile, false},
		"flushed but for meta (F32)":       {func(f *facts) { f.position.Teams, f.position.Checkpoint = 0, 0 }, actReconcile, false},
		"marker":                           {func(f *facts) { f.position.Reconcile = "TRUNCATE" }, actReconcile, false},
		"not complete (F69)":               {func(f *facts) { f.position.Complete = false }, actReconcile, false},
		"older schema":                     {func(f *facts) { f.position.Schema = 0 }, actReconcile, false},
		"newer schema":                     {func(f *facts) { f.position.Schema = 2 }, actRefuse, false},
		"schema not compared":              {func(f *facts) { f.schema = 0 }, actStream, false},
		"other cluster (F10)":              {func(f *facts) { f.source.SystemID = "2" }, actRefuse, false},
		"other cluster, allowed":           {func(f *facts) { f.source.SystemID, f.allowSourceChange = "2", true }, actReconcile, false},
		"other cluster, empty cache":       {func(f *facts) { f.source.SystemID, f.position = "2", change.Position{} }, actReconcile, false},
		"other timeline (F66)":             {func(f *facts) { f.source.Timeline = 2 }, actReconcile, false},
		"other database":                   {func(f *facts) { f.source.DatabaseOID = 6 }, actReconcile, false},
		"other slot":                       {func(f *facts) { f.source.Slot = "t" }, actReconcile, false},
		"other publication":                {func(f *facts) { f.source.Publication = "q" }, actReconcile, false},
		"other tables (F49)":               {func(f *facts) { f.source.Fingerprint = "g" }, actReconcile, false},
		"table not published (F49)":        {func(f *facts) { f.unpublished = true }, actReconcile, false},
		"slot created anew":                {func(f *facts) { f.renewed = "lost" }, actReconcile, false},
		"checkpoint before confirmed (F9)": {func(f *facts) { f.confirmed = 61 }, actReconcile, false},
		"checkpoint beyond the end (F66)":  {func(f *facts) { f.walEnd = 59 }, actReconcile, false},
		"restarted server":                 {func(f *facts) { f.source.PostmasterStart = time.Unix(2000, 0) }, actStream, true},
	} {
		f := normal
		test.with(&f)
		if got := decideStart(f); got.action != test.want || got.verify != test.verify || got.reason == "" {
			t.Errorf("%s: got %+v, want action %d", name, got, test.want)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	p := newProgress(50, 0)
	for i, step := range []struct{ applied, want change.LSN }{{0, 50}, {40, 50}, {60, 60}, {55, 60}, {60, 60}, {61, 61}} { // F4, F5, F8
		if step.applied != 0 {
			p.apply(step.applied, start)
		}
		if got := p.acknowledge(start); got != step.want {
			t.Errorf("step %d: acknowledged %s, want %s", i, got, step.want)
		}
	}
	if err := (&pgWAL{}).Status(0, true); !errors.Is(err, errNoPosition) { // it would have used the connection
		t.Errorf("a status of no position: %v", err)
	}
}

func TestProgressDelay(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	p := newProgress(50, time.Minute)
	for i := range 3 * maxWaiting {
		p.apply(change.LSN(100+i), start.Add(time.Duration(i)*time.Second))
	}
	if got := p.acknowledge(start.Add(59 * time.Second)); got != 50 {
		t.Errorf("acknowledged %s too early", got)
	}
	if got := p.acknowledge(start.Add(70 * time.Second)); got != 110 {
		t.Errorf("acknowledged %s, want what is a minute old", got)
	}
	hurried := *p
	hurried.waiting = append([]appliedAt(nil), p.waiting...)
	hurried.hurried = true // too much log is retained (G5)
	if got := hurried.acknowledge(start.Add(70 * time.Second)); got != change.LSN(100+3*maxWaiting-1) {
		t.Errorf("acknowledged %s in a hurry", got)
	}
	if len(p.waiting) > maxWaiting {
		t.Errorf("%d positions are kept", len(p.waiting))
	}
	if got := p.acknowledge(start.Add(24 * time.Hour)); got != change.LSN(100+3*maxWaiting-1) {
		t.Errorf("acknowledged %s in the end", got)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	tx := func(end change.LSN, bytes int) item {
		return item{tx: &change.Tx{EndLSN: end, Bytes: bytes}, memory: bytes}
	}
	q := newQueue(10_000)
	for _, i := range []item{tx(10, 100), {position: 11}, {position: 12, urgent: true}, {position: 13}, tx(20, 900), tx(30, 5000), tx(40, 1)} {
		q.push(i)
	}
	if q.full() {
		t.Error("full too early")
	}
	ends := func(items []item) (all []change.LSN) {
		for _, i := range items {
			all = append(all, i.end())
		}
		return all
	}
	first := q.take(10, 1000, 35)
	if diff := cmp.Diff([]change.LSN{10, 13, 20}, ends(first)); diff != "" {
		t.Error(diff)
	}
	if !first[1].urgent {
		t.Error("an urgent position was forgotten")
	}
	if diff := cmp.Diff([]change.LSN{30}, ends(q.take(10, 1000, 35))); diff != "" { // too large for the batch, but the first
		t.Error(diff)
	}
	if got := q.take(10, 1000, 39); len(got) != 0 || !q.beyond(39) || q.beyond(40) {
		t.Errorf("took %v", ends(got))
	}
	q.push(tx(50, 9500))
	if !q.full() {
		t.Error("not full")
	}
	q.dropThrough(40)
	if diff := cmp.Diff([]change.LSN{50}, ends(q.take(1, 1, 50))); diff != "" {
		t.Error(diff)
	}
	if q.used() != 0 || !q.empty() {
		t.Errorf("%d bytes are left", q.used())
	}
	q.push(tx(60, 1))
	q.discard()
	q.push(tx(70, 1))
	if lost := q.keep(); lost != 70 || !q.empty() {
		t.Errorf("lost through %s", lost)
	}
}

func TestLag(t *testing.T) { // F74
	t.Parallel()
	start := time.Unix(1000, 0)
	var l lag
	if l.fresh(start) {
		t.Error("fresh before anything is known")
	}
	for i := range 2000 {
		l.observe(start.Add(time.Duration(i)*time.Second), change.LSN(100+i))
	}
	if len(l.samples) > maxSamples {
		t.Errorf("%d samples", len(l.samples))
	}
	l.reach(100)
	if age, known := l.behind(start.Add(10 * time.Second)); !known || age != 10*time.Second {
		t.Errorf("behind %s, %t", age, known)
	}
	l.reach(3000)
	if now := start.Add(2000 * time.Second); !l.fresh(now) || l.fresh(now.Add(10*time.Second)) { // F73: without a new sample it ages
		t.Error("freshness is wrong")
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ordinary, exported string
		want               bool
	}{
		{"10:10:", "10:10:", true},
		{"9:10:", "10:11:", false},     // has not got there
		{"10:12:10", "11:12:", false},  // 10 is committed in the exported snapshot, but still running (F77)
		{"10:12:10", "10:12:10", true}, // running in both
		{"12:15:13", "10:12:10", true}, // began later
		{"10:12:10,11", "10:12:11", false},
	} {
		ordinary, errOne := parseSnapshot(test.ordinary)
		exported, errTwo := parseSnapshot(test.exported)
		if errOne != nil || errTwo != nil {
			t.Fatal(errOne, errTwo)
		}
		if got := ordinary.covers(exported); got != test.want {
			t.Errorf("%s covers %s: %t", test.ordinary, test.exported, got)
		}
	}
	for _, text := range []string{"", "1:2", "a:2:", "1:2:x", "1:2:3:4"} {
		if _, err := parseSnapshot(text); err == nil {
			t.Errorf("%q is no snapshot", text)
		}
	}
}

func TestNamesStandby(t *testing.T) { // F79
	t.Parallel()
	for setting, want := range map[string]bool{
		"": false, "*": true, "a, b": false, "a, everflag": true, "FIRST 1 (a, *)": true, "ANY 2 (a, b)": false, `2 ("Everflag", b)`: true, "everflag2": false,
	} {
		if got := namesStandby(setting, "everflag"); got != want {
			t.Errorf("%q: %t", setting, got)
		}
	}
}

func TestPublicationSQL(t *testing.T) { // F50, F54, F55, F78, F47
	t.Parallel()
	c := &catalog{schema: `od"d`, tables: []tableState{
		{binding: bindingOf("posthog_team")},
		{binding: bindingOf(parentTable), partitioned: true, published: "1", narrowed: true},
	}}
	options := "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
	for name, test := range map[string]struct {
		state publicationState
		want  []string
	}{
		"missing": {publicationState{}, []string{
			`CREATE PUBLICATION "p" FOR TABLE ONLY "od""d"."posthog_team", "od""d"."posthog_featureflag" WITH (` + options + `)`,
		}},
		"incomplete": {publicationState{exists: true}, []string{
			`ALTER PUBLICATION "p" SET (` + options + `)`,
			`ALTER PUBLICATION "p" ADD TABLE ONLY "od""d"."posthog_team"`,
			`ALTER PUBLICATION "p" DROP TABLE "od""d"."posthog_featureflag"`,
			`ALTER PUBLICATION "p" ADD TABLE "od""d"."posthog_featureflag"`,
		}},
	} {
		if diff := cmp.Diff(test.want, publicationSQL("p", test.state, c)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	c.tables[0].published, c.tables[1].narrowed = "1", false
	if got := publicationSQL("p", publicationState{exists: true, operations: true, viaRoot: true}, c); got != nil {
		t.Errorf("nothing is left to do, but %q", got)
	}
}

func TestSlotSQL(t *testing.T) { // F65
	t.Parallel()
	for _, test := range []struct {
		temporary bool
		version   int
		want      string
	}{
		{false, 140000, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput NOEXPORT_SNAPSHOT`},
		{true, 140000, `CREATE_REPLICATION_SLOT "s" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT`},
		{false, 150000, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'nothing')`},
		{true, 180000, `CREATE_REPLICATION_SLOT "s" TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')`},
		{false, 170000, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER)`},
	} {
		if got := slotSQL("s", test.temporary, test.version); got != test.want {
			t.Errorf("got %s", got)
		}
	}
}

func TestPermanent(t *testing.T) { // F27
	t.Parallel()
	state := func(code string) error { return fmt.Errorf("x: %w", &pgconn.PgError{Code: code}) }
	for _, test := range []struct {
		err                error
		permanent, lasting bool
	}{
		{state("28P01"), true, false},
		{state("42501"), true, false},
		{state("3D000"), true, false},
		{state("53300"), false, false},
		{state("57P03"), false, false},
		{state("55006"), false, false},
		{state("42704"), false, false},
		{fmt.Errorf("x: %w", errMalformed), true, true},
		{fmt.Errorf("%w: %w", errMoved, state("42P01")), false, false},
		{refuse("no"), true, true},
		{tableError{errors.New("no")}, true, false},
		{context.DeadlineExceeded, false, false},
		{change.ErrFenced, false, false},
	} {
		if Permanent(test.err) != test.permanent || lasting(test.err) != test.lasting {
			t.Errorf("%v: permanent %t, lasting %t", test.err, Permanent(test.err), lasting(test.err))
		}
	}
	if text := explained(state("28P01")).Error(); !strings.Contains(text, "--postgres-url") {
		t.Errorf("no remedy in %q", text)
	}
}

func TestCopyLine(t *testing.T) { // F52, F53
	t.Parallel()
	columns, _, err := parseCopyLine([]byte(`1	\N		a\tb\\N\n	\\N	ü\b\f\v\r`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"1", null, "", "a\tb\\N\n", `\N`, "ü\b\f\v\r"}
	if len(columns) != len(want) {
		t.Fatalf("got %d columns", len(columns))
	}
	for i, c := range columns {
		if c.kind == tupleNull && want[i] == null {
			continue
		}
		if c.kind != tupleText || string(c.text) != want[i] {
			t.Errorf("column %d is %q, want %q", i, c.text, want[i])
		}
	}
	if _, _, err := parseCopyLine([]byte(`a\`), nil, nil); !errors.Is(err, errMalformed) {
		t.Errorf("a lonely backslash: %v", err)
	}
}

func TestFrozenLeader(t *testing.T) { // F21
	t.Parallel()
	start := time.Unix(1000, 0)
	alive := leaderSigns{pid: 9, ours: true, answers: true, pulse: "1", reply: "1"}
	type look struct {
		after time.Duration
		with  func(*leaderSigns)
		want  bool
	}
	still := func(*leaderSigns) {}
	for name, looks := range map[string][]look{
		"frozen":            {{0, still, false}, {4 * time.Second, still, false}, {5 * time.Second, still, true}},
		"writes":            {{0, still, false}, {5 * time.Second, func(s *leaderSigns) { s.pulse = "2" }, false}},
		"talks to Postgres": {{0, still, false}, {5 * time.Second, func(s *leaderSigns) { s.reply = "2" }, false}},
		"another process":   {{0, still, false}, {5 * time.Second, func(s *leaderSigns) { s.pid = 10 }, false}},
		"cache is silent":   {{0, still, false}, {5 * time.Second, func(s *leaderSigns) { s.answers = false }, false}, {6 * time.Second, still, false}},
		"not a replicator":  {{0, func(s *leaderSigns) { s.ours = false }, false}, {9 * time.Second, func(s *leaderSigns) { s.ours = false }, false}},
	} {
		f := frozenLeader{after: 5 * time.Second}
		for i, look := range looks {
			signs := alive
			look.with(&signs)
			if got := f.observe(signs, start.Add(look.after)); got != look.want {
				t.Errorf("%s, look %d: %t", name, i, got)
			}
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for want, with := range map[string]func(*Config){
		"--postgres-url":  func(c *Config) { c.PostgresURL = "" },
		"--slot":          func(c *Config) { c.Slot = "Upper" },
		"--schema":        func(c *Config) { c.Schema = "" },
		"--publication":   func(c *Config) { c.Publication = "" },
		"--max-tx-bytes":  func(c *Config) { c.MaxTxBytes = 0 },
		"--catalog-every": func(c *Config) { c.CatalogEvery = 0 },
		"--ack-delay":     func(c *Config) { c.AckDelay = -1 },
	} {
		cfg := Defaults()
		cfg.PostgresURL = "postgres://x"
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		with(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named: %v", want, err)
		}
	}
}
