package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// saved is what the snapshot file is known to hold.
type saved struct {
	views      int64  // value of Store.changed
	checkpoint string // position
	at         time.Time
	problem    string // of the last read or write; empty if it worked
}

// loadFile serves what the snapshot file holds, if it can be used, and returns where to go on from.
func (s *Store) loadFile() cursor {
	start := time.Now()
	snap, err := readSnapshot(s.cfg.SnapshotFile, s.cfg.SharedByProject)
	if err == nil && snap.header.Prefix != s.cfg.Prefix {
		err = fmt.Errorf("%w of key prefix %q, but of %q", errForeign, s.cfg.Prefix, snap.header.Prefix)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.log.Info("there is no snapshot file yet", zap.String("path", s.cfg.SnapshotFile))
		return cursor{}
	case err != nil:
		s.log.Warn("the snapshot file is ignored", zap.String("path", s.cfg.SnapshotFile), zap.Error(err))
		s.saved.Store(&saved{problem: err.Error()})
		return cursor{}
	}
	h := snap.header
	s.view.Store(snap.view)
	for _, t := range snap.view.teams.all() {
		if now := s.codecs.current.Load(); now == nil || t.codec.sampled > now.sampled {
			s.codecs.current.Store(t.codec)
		}
	}
	s.report(func(c *condition) {
		c.origin, c.since, c.checkpoint, c.commitTime = OriginFile, time.Now(), h.Position, h.Commit
		if h.Beat != 0 {
			c.beat = time.UnixMilli(h.Beat)
		}
	})
	s.saved.Store(&saved{checkpoint: h.Position, at: modified(s.cfg.SnapshotFile)})
	s.log.Info("serving from the snapshot file", zap.String("path", s.cfg.SnapshotFile), zap.Int("teams", snap.view.teams.size),
		zap.String("position", h.Position), zap.Duration("took", time.Since(start)))
	return cursor{owner: h.Owner, epoch: h.Epoch, seq: h.Seq, checkpoint: h.Checkpoint}
}

// leftBehind is the age at which nobody can still be writing a temporary file.
const leftBehind = 10 * time.Minute

// removeLeftBehind removes the temporary files of processes that were killed while they wrote.
func (s *Store) removeLeftBehind() {
	found, _ := filepath.Glob(s.cfg.SnapshotFile + temporaryPart + "*") // a path that is no pattern leaves some files
	for _, path := range found {
		if at := modified(path); !at.IsZero() && time.Since(at) > leftBehind {
			_ = os.Remove(path) // it takes room and does no other harm
		}
	}
}

// tryFile says at once what the first write would find out when it is needed.
func (s *Store) tryFile() {
	if s.cfg.Client == nil {
		return // nothing will be written
	}
	s.removeLeftBehind()
	path := s.cfg.SnapshotFile
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".try-*")
	if err == nil {
		err = errors.Join(file.Close(), os.Remove(file.Name()))
	}
	if err != nil {
		s.log.Warn("the directory of --snapshot-file is not writable: definitions will not survive a restart while redis is away",
			zap.String("path", path), zap.Error(err))
		s.saved.Store(s.saved.Load().failed(err))
	}
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// saveRegularly writes the file at every interval in which the definitions have changed, until the context ends.
func (s *Store) saveRegularly(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.SnapshotEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if s.changed.Load() != s.saved.Load().views {
				s.save()
			}
		}
	}
}

// saveAtEnd writes the file once more, also if only the position has moved: the next start then has less to catch up with.
func (s *Store) saveAtEnd() {
	last := s.saved.Load()
	if s.changed.Load() != last.views || s.condition.Load().checkpoint != last.checkpoint {
		s.save()
	}
}

// save writes the file. What is served does not depend on the outcome.
func (s *Store) save() {
	views := s.changed.Load()
	// The condition first: the view may then be ahead of it, which costs a few teams read twice, but never behind.
	c := s.condition.Load()
	v := s.view.Load()
	if v.teams.size == 0 && !c.certain {
		return
	}
	h := header{Prefix: s.cfg.Prefix, Checkpoint: c.cursor.checkpoint, Position: c.checkpoint, Commit: c.commitTime}
	if c.whole {
		h.Owner, h.Epoch, h.Seq = c.cursor.owner, c.cursor.epoch, c.cursor.seq
	}
	if !c.beat.IsZero() {
		h.Beat = c.beat.UnixMilli()
	}
	start := time.Now()
	if err := writeSnapshot(s.cfg.SnapshotFile, &snapshot{header: h, view: v}); err != nil {
		s.metrics.saves.WithLabelValues(saveFailed).Inc()
		if last := *s.saved.Load(); last.problem == "" {
			s.log.Error("the snapshot file was not written", zap.Error(err))
		}
		s.saved.Store(s.saved.Load().failed(err))
		return
	}
	s.metrics.saves.WithLabelValues(saveWritten).Inc()
	s.saved.Store(&saved{views: views, checkpoint: c.checkpoint, at: time.Now()})
	s.log.Debug("snapshot file written", zap.Int("teams", v.teams.size), zap.Duration("took", time.Since(start)))
}

// failed returns the state after a write that did not work: what the file held before, it holds still.
func (s saved) failed(err error) *saved {
	s.problem = err.Error()
	return &s
}

// syncDirectory makes a rename last.
func syncDirectory(path string) error {
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("putting the snapshot file in place: %w", err)
	}
	if err := errors.Join(directory.Sync(), directory.Close()); err != nil {
		return fmt.Errorf("putting the snapshot file in place: %w", err)
	}
	return nil
}
