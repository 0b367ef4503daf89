package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/everflag/everflag/internal/change"
)

// placedRow is a row of a copy with the team under which it is stored, also if it finds it through a parent.
type placedRow struct {
	team int64
	row  change.Row
}

// How many rows and bytes travel from a table's reader to the merge at once.
const (
	chunkRows  = 256
	chunkBytes = 64 << 10
)

// teams yields all teams of the snapshot in the order of their ids. Each table is read by its own connection, ordered by team, so that memory does not
// depend on the size of the tables. It can be consumed once. progress counts rows.
func (s *snapshot) teams(ctx context.Context, progress func(teams, rows int)) iter.Seq2[change.TeamRows, error] {
	return func(yield func(change.TeamRows, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var readers sync.WaitGroup
		defer readers.Wait()
		defer cancel()
		sources := make([]*rowSource, len(s.catalog.tables))
		for i := range s.catalog.tables {
			sources[i] = &rowSource{chunks: make(chan chunk, 2)}
			readers.Go(func() { sources[i].read(ctx, s.readers[i], &s.catalog.tables[i], s.catalog) })
		}
		if err := merge(ctx, sources, progress, yield); err != nil {
			yield(change.TeamRows{}, err)
		}
	}
}

// merge joins sources that are each ordered by team.
func merge(ctx context.Context, sources []*rowSource, progress func(teams, rows int), yield func(change.TeamRows, error) bool) error {
	for _, source := range sources {
		if err := source.advance(ctx); err != nil {
			return err
		}
	}
	for {
		team, found := int64(0), false
		for _, source := range sources {
			if source.current != nil && (!found || source.current.team < team) {
				team, found = source.current.team, true
			}
		}
		if !found {
			return nil
		}
		rows := change.TeamRows{Team: team}
		for _, source := range sources {
			for source.current != nil && source.current.team == team {
				rows.Rows = append(rows.Rows, source.current.row)
				if err := source.advance(ctx); err != nil {
					return err
				}
			}
		}
		progress(1, len(rows.Rows))
		if !yield(rows, nil) {
			return nil
		}
	}
}

type chunk struct {
	rows []placedRow
	err  error
}

// rowSource is one table of a copy on its way through a channel.
type rowSource struct {
	chunks  chan chunk
	pending []placedRow
	last    int64
	current *placedRow // nil at the end
}

// advance makes the next row current.
func (r *rowSource) advance(ctx context.Context) error {
	for len(r.pending) == 0 {
		select {
		case next, open := <-r.chunks:
			if !open {
				r.current = nil
				return nil
			}
			if next.err != nil {
				return next.err
			}
			r.pending = next.rows
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	previous := r.current
	r.current, r.pending = &r.pending[0], r.pending[1:]
	if previous != nil && r.current.team < r.last {
		return fmt.Errorf("%w: the copy is not ordered: team %d after %d", errMalformed, r.current.team, r.last)
	}
	r.last = r.current.team
	return nil
}

// read copies the table into the channel.
func (r *rowSource) read(ctx context.Context, conn *pgx.Conn, t *tableState, c *catalog) {
	defer close(r.chunks)
	w := &copyWriter{ctx: ctx, out: r.chunks, layout: t.copyLayout()}
	_, err := conn.PgConn().CopyTo(ctx, w, t.copySQL(c))
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		err = fmt.Errorf("copying table %q: %w", t.binding.table.Name, explained(err))
		select {
		case r.chunks <- chunk{err: err}:
		case <-ctx.Done():
		}
	}
}

// copyLayout is the table's layout as copySQL prints it: the team first, then the columns that are read, in the order of the table.
func (t *tableState) copyLayout() *layout {
	columns := []relationColumn{{name: ""}}
	columns = append(columns, t.layout.read...)
	return newLayout(t.binding, t.oid, columns)
}

// copySQL reads what the stream would send: rows that have a team and are not hidden. Rows of a hidden parent are there, because showing the parent again
// sends no change of theirs.
func (t *tableState) copySQL(c *catalog) string {
	b := t.binding
	quoted := func(column string) string { return "t." + pgx.Identifier{column}.Sanitize() }
	from := t.reference(c.schema) + " t"
	team := ""
	if b.parent == "" {
		team = quoted(b.team)
	} else {
		parent := c.table(bindingOf(parentTable))
		team = "p." + pgx.Identifier{parent.binding.team}.Sanitize()
		from += fmt.Sprintf(" JOIN %s p ON p.%s = %s", parent.reference(c.schema), pgx.Identifier{parent.binding.key}.Sanitize(), quoted(b.parent))
	}
	list := []string{team}
	for _, column := range t.layout.read {
		list = append(list, quoted(column.name))
	}
	where := team + " IS NOT NULL"
	if t.layout.hidden >= 0 {
		where += " AND " + quoted(b.hidden) + " IS NOT TRUE"
	}
	return fmt.Sprintf("COPY (SELECT %s FROM %s WHERE %s ORDER BY %s) TO STDOUT", strings.Join(list, ", "), from, where, team)
}

// copyWriter turns COPY text into rows.
type copyWriter struct {
	ctx     context.Context //nolint:containedctx // io.Writer leaves no other way
	out     chan<- chunk
	layout  *layout
	partial []byte // of a line that continues in the next write; the server sends whole lines
	rows    []placedRow
	bytes   int
	columns []tupleColumn
	scratch []byte
}

func (w *copyWriter) Write(data []byte) (int, error) {
	written := len(data)
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		if !whole {
			w.partial = append(w.partial, line...)
			break
		}
		if len(w.partial) > 0 {
			line = append(w.partial, line...)
			w.partial = nil
		}
		if err := w.line(line); err != nil {
			return 0, err
		}
		data = rest
	}
	return written, nil
}

func (w *copyWriter) line(line []byte) error {
	var err error
	if w.columns, w.scratch, err = parseCopyLine(line, w.columns, w.scratch); err != nil {
		return err
	}
	placed, err := w.layout.placed(w.columns)
	if err != nil {
		return err
	}
	w.rows = append(w.rows, placed)
	w.bytes += len(line)
	if len(w.rows) >= chunkRows || w.bytes >= chunkBytes {
		return w.flush()
	}
	return nil
}

func (w *copyWriter) flush() error {
	select {
	case w.out <- chunk{rows: w.rows}:
		w.rows, w.bytes = nil, 0
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

func (w *copyWriter) finish() error {
	if len(w.partial) > 0 {
		return fmt.Errorf("%w: the copy ends within a line", errMalformed)
	}
	if len(w.rows) == 0 {
		return nil
	}
	return w.flush()
}

// errUnplaced means that a copy holds a row that the query should not have returned.
var errUnplaced = errors.New("a copied row has no place")

// placed reads a line of copySQL: the team, then a row.
func (l *layout) placed(columns []tupleColumn) (placedRow, error) {
	var p placedRow
	c, reason := l.upsert(columns)
	if reason != "" || c.Op != change.Upsert {
		return p, fmt.Errorf("%w: %s", errUnplaced, reason)
	}
	team, err := parseTeam(columns[0].text)
	if err != nil {
		return p, err
	}
	return placedRow{team: team, row: c.Row}, nil
}
