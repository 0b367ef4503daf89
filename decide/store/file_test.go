package store

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everflag/everflag/decide"
	"github.com/everflag/everflag/internal/flagcache"
	"github.com/everflag/everflag/internal/testenv"
)

// withFile is a change of a Config.
func withFile(path string) func(*Config) {
	return func(cfg *Config) { cfg.SnapshotFile = path }
}

// again returns a store on the same cache and file, as after a restart of the process.
func (b *bundle) again(t *testing.T, change func(*Config)) *bundle {
	t.Helper()
	cfg := b.cfg
	if change != nil {
		change(&cfg)
	}
	next := &bundle{Store: New(cfg), w: b.w}
	return next.start(t)
}

// G7, S1, S15, S16, S18: everything is down and decide starts again: the same answers from the file, ready at once, and no 401.
func TestRestartWithEverythingDown(t *testing.T) {
	t.Parallel()
	own, b := ownRedis(t, withFile(filepath.Join(t.TempDir(), "snapshot")))
	b.w.fill("one", definition{id: 1, mark: "a", flags: 3, project: 7}, definition{id: 2, mark: "b"})
	b.start(t)
	b.w.put(definition{id: 1, mark: "a2", flags: 2, project: 7})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "b", "phc_9": "absent"})
	b.arrives(t)
	records, _ := b.Records("phc_1")
	position := b.Position().Checkpoint
	own.Kill(t)
	b.stop()

	c := b.again(t, nil)
	c.wants(t, time.Second, map[string]string{"phc_1": "a2", "phc_2": "b", "phc_9": "unavailable"})
	again, _ := c.Records("phc_1")
	if diff := cmp.Diff(records, again); diff != "" {
		t.Errorf("records from the file (-want +got):\n%s", diff)
	}
	if p := c.Position(); !p.Ready || p.Checkpoint != position {
		t.Errorf("Position = %+v, want checkpoint %s", p, position)
	}
	if s := c.Status(); s.Source != "file" || s.SnapshotAt == nil {
		t.Errorf("Status = %+v", s)
	}

	// Redis returns with one more change: only what differs is read, and the absence is certain again.
	own.Start(t)
	b.w.put(definition{id: 2, mark: "b2"})
	b.w.beat()
	c.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "b2", "phc_9": "absent"})
	if s := c.Status(); s.Source != "redis" {
		t.Errorf("Status = %+v", s)
	}
	if n := testutil.ToFloat64(c.metrics.revalidations.WithLabelValues(reasonStart)); n != 0 {
		t.Errorf("all versions were compared %v times: the file was whole", n)
	}
}

// The file of an earlier reign: what has changed since is read, what is gone goes.
func TestFileIsBehind(t *testing.T) {
	t.Parallel()
	b := setup(t, withFile(filepath.Join(t.TempDir(), "snapshot")))
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"}, definition{id: 3, mark: "c"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_9": "absent"})
	b.stop()
	b.w.lead("two")
	b.w.put(definition{id: 1, mark: "a2"})
	b.w.remove(3)
	b.w.beat()
	c := b.again(t, nil)
	c.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "b", "phc_3": "absent"})
	if s := c.Status(); s.Source != "redis" {
		t.Errorf("Status = %+v", s)
	}
}

// A file written while the cache was being rebuilt holds teams that the cache did not have: the next process finds out that some of them are gone.
func TestFileOfHalfACache(t *testing.T) {
	t.Parallel()
	b := setup(t, withFile(filepath.Join(t.TempDir(), "snapshot")))
	b.w.fill("one", definition{id: 1, mark: "a"}, definition{id: 2, mark: "b"})
	b.start(t)
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a", "phc_2": "b"})
	b.w.client.FlushDB(t.Context())
	b.w.tokens = map[int64]string{}
	b.w.lead("two")
	b.w.put(definition{id: 1, mark: "a2"})
	b.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "b"})
	b.stop()
	b.w.set(flagcache.MetaComplete, "1")
	b.w.beat()
	c := b.again(t, nil)
	c.wants(t, 3*time.Second, map[string]string{"phc_1": "a2", "phc_2": "absent"})
}

// The file is written while decide runs, too, not only when it is asked to stop.
func TestFileWrittenInTurn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshot")
	b := setup(t, func(cfg *Config) { cfg.SnapshotFile, cfg.SnapshotEvery = path, 20*time.Millisecond })
	b.w.fill("one", definition{id: 1, mark: "a"})
	b.start(t)
	for _, mark := range []string{"b", "c"} {
		b.w.put(definition{id: 1, mark: mark})
		testenv.Eventually(t, 3*time.Second, func() error {
			snap, err := readSnapshot(path, false)
			if err != nil {
				return err
			}
			one, _ := snap.view.teams.get(1)
			if records, err := one.records(); err != nil || !strings.Contains(string(records.Team), " "+mark+`"`) {
				return fmt.Errorf("the file holds %v, %v", records, err)
			}
			return nil
		})
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("Stat = %v, %v: the file holds tokens", info.Mode(), err)
	}
}

// S16: whatever is wrong with the file, it is reported and ignored.
func TestUnusableFile(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "snapshot")
	writeSome(t, good, flagcache.DefaultPrefix)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	flipped, newer := bytes.Clone(content), bytes.Clone(content)
	flipped[len(flipped)/2] ^= 1
	newer[len(fileMagic)+3]++
	foreign := filepath.Join(t.TempDir(), "foreign")
	writeSome(t, foreign, "other")
	other, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"good":             {content, ""},
		"empty":            {nil, "no snapshot file"},
		"of something":     {[]byte("PK\x03\x04 something else entirely, long enough to hold a header"), "no snapshot file"},
		"cut off":          {content[:len(content)-7], "damaged"},
		"cut off early":    {content[:len(fileMagic)+9], "damaged"},
		"one bit":          {flipped, "damaged"},
		"newer":            {newer, "format 2"},
		"of another cache": {other, `of key prefix "everflag", but of "other"`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "snapshot")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			s := New(Config{SnapshotFile: path})
			s.loadFile()
			if problem := s.Status().FileError; !strings.Contains(problem, test.want) || (problem == "") != (test.want == "") {
				t.Errorf("problem %q, want %q", problem, test.want)
			}
			if ready := s.Position().Ready; ready != (test.want == "") {
				t.Errorf("ready = %t", ready)
			}
			if _, lookup := s.Records("phc_99"); lookup != decide.Unavailable {
				t.Errorf("Records of an unknown token = %v", lookup)
			}
		})
	}
}

// The file cannot be written: what is served does not depend on it, and the old file stays.
func TestFileNotWritten(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	path := filepath.Join(directory, "snapshot")
	writeSome(t, path, flagcache.DefaultPrefix)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{SnapshotFile: path})
	s.loadFile()
	// The directory goes.
	if err := os.Rename(directory, directory+"-away"); err != nil {
		t.Fatal(err)
	}
	s.changed.Add(1)
	s.save()
	if status := s.Status(); status.FileError == "" || status.SnapshotAt == nil {
		t.Errorf("Status = %+v", status)
	}
	if err := os.Rename(directory+"-away", directory); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed (%v)", err)
	}
	s.save()
	if problem := s.Status().FileError; problem != "" {
		t.Errorf("problem %q after a write that worked", problem)
	}
	if entries, err := os.ReadDir(directory); err != nil || len(entries) != 1 {
		t.Errorf("beside the file there are %v (%v)", entries, err)
	}
}

// S16: two processes with one file, as when the next one starts while the last one drains: whatever is there at any time is whole.
func TestFileOfTwo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshot")
	v := writeSome(t, path, flagcache.DefaultPrefix)
	var writing sync.WaitGroup
	for range 2 {
		writing.Go(func() {
			for n := range 50 {
				h := header{Prefix: flagcache.DefaultPrefix, Position: strings.Repeat("p", n*997%4001)} // of another length each time
				if err := writeSnapshot(path, &snapshot{view: v, header: h}); err != nil {
					t.Error(err)
				}
				if _, err := readSnapshot(path, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
}

// What a killed process has left behind goes, what another one writes now stays.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshot")
	old, young := path+temporaryPart+"1", path+temporaryPart+"2"
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	New(Config{SnapshotFile: path}).removeLeftBehind()
	if found, err := filepath.Glob(path + "*"); err != nil || len(found) != 1 || found[0] != young {
		t.Errorf("left are %v, want %s (%v)", found, young, err)
	}
}

// writeSome writes a file with a few teams, by two dictionaries.
func writeSome(t testing.TB, path, prefix string) *view {
	t.Helper()
	d := newDraft(&view{})
	var p packer
	var known *codec
	for id := range int64(20) {
		hash := definition{id: id + 1, mark: "m", flags: int(id), project: id / 2}.hash()
		hash[flagcache.VersionField] = flagcache.Version(1790000000000, uint64(id))
		if id%10 == 0 {
			var c codecs
			known = c.forTeams(20, []map[string]string{hash})
		}
		one, err := p.pack(id+1, maps.Clone(hash), known)
		if err != nil {
			t.Fatal(err)
		}
		d.teams[id+1] = one
	}
	v := d.apply(false)
	err := writeSnapshot(path, &snapshot{view: v, header: header{Prefix: prefix, Owner: "one", Epoch: 1790000000000, Seq: 20, Position: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFileKeepsAll(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshot")
	written := writeSome(t, path, "everflag")
	snap, err := readSnapshot(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if snap.view.teams.size != written.teams.size || snap.view.records != written.records {
		t.Errorf("%d teams of %d bytes, want %d of %d", snap.view.teams.size, snap.view.records, written.teams.size, written.records)
	}
	for id, want := range written.teams.all() {
		got, _ := snap.view.teams.get(id)
		if got.version != want.version || got.token != want.token || got.project != want.project || got.flags != want.flags || got.packed != want.packed {
			t.Errorf("team %d = %+v, want %+v", id, got, want)
		}
		if records, err := got.records(); err != nil || len(records.Flags) != int(want.flags) {
			t.Errorf("records of team %d = %v, %v", id, records, err)
		}
	}
}

// FuzzStream feeds the reader what a checksum would have kept away: it must end with an error, not with a panic or without end.
func FuzzStream(f *testing.F) {
	path := filepath.Join(f.TempDir(), "snapshot")
	v := writeSome(f, path, "everflag")
	var plain bytes.Buffer
	if err := encodeTeams(&plain, &snapshot{view: v}); err != nil {
		f.Fatal(err)
	}
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, stream []byte) {
		if _, err := readStream(bytes.NewReader(stream), false); err != nil {
			return
		}
	})
}
