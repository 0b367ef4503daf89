package cachewriter

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/everflag/everflag/internal/change"
	"github.com/everflag/everflag/internal/flagcache"
)

// Config is what a Writer needs.
type Config struct {
	// Client reaches the Redis that is written, never a replica. It should not retry by itself: a batch whose reply was lost is the Writer's business.
	Client redis.UniversalClient

	Logger *zap.Logger

	// Prefix starts every key. Defaults to flagcache.DefaultPrefix.
	Prefix string

	// Timeout bounds one round trip. Defaults to 10 s, since one script may write a transaction of many MB.
	Timeout time.Duration

	// WaitReplicas is how many replicas must confirm a write before it counts. Defaults to 0: none.
	WaitReplicas int

	// Registerer takes the metrics. Defaults to none.
	Registerer prometheus.Registerer
}

// Sizes of what is sent and read at a time. One script blocks Redis for about 8 ms per MB.
const (
	maxBatch  = 4 << 20  // of several transactions, or of a step of a reconcile
	maxTx     = 32 << 20 // of one transaction, unchanged columns included; a larger one is left to a reconcile
	maxStored = 64 << 20 // of stored records read for a batch
	maxRows   = 250_000  // of one transaction: Redis takes about a million arguments
)

// Writer keeps one cache. Its methods are for one goroutine, but Compare and Check, which keep no state.
type Writer struct {
	config  Config
	keys    flagcache.Keys
	metrics *metrics

	// Leadership, as Redis has confirmed it.
	owner      string
	epoch      int64
	checkpoint change.LSN
	marker     string
	replacing  bool // a reconcile has begun to replace teams and none has completed since: see the package comment
	steps      int  // of reconciles, so that each has a name of its own
	index      *index

	// A batch that was sent and not confirmed. It may be in Redis.
	inflight *inflight
}

// inflight is a planned batch. It is planned once, because a second plan would read what the first has written.
type inflight struct {
	plan       *plan
	through    change.LSN
	commitTime time.Time
	txs, rows  int
}

// New returns a Writer that does not lead yet. It does no I/O.
func New(config Config) *Writer {
	config.Prefix = cmp.Or(config.Prefix, flagcache.DefaultPrefix)
	config.Timeout = cmp.Or(config.Timeout, 10*time.Second)
	config.Logger = cmp.Or(config.Logger, zap.NewNop())
	return &Writer{config: config, keys: flagcache.NewKeys(config.Prefix), metrics: newMetrics(config.Registerer), index: newIndex()}
}

// Acquire fences every process that wrote before, and only then reads the position and loads the index.
func (w *Writer) Acquire(ctx context.Context) (change.Position, error) {
	owner := ownerID()
	w.owner, w.inflight = "", nil
	stepCtx, cancel := w.within(ctx)
	start := time.Now()
	text, err := acquireScript.Run(stepCtx, w.config.Client, []string{w.keys.Meta, w.keys.Changes}, owner).Text()
	w.metrics.observe("acquire", time.Since(start))
	defer cancel()
	if err != nil {
		return change.Position{}, w.classify(stepCtx, "acquiring leadership", err)
	}
	// From here on no former leader can write: what is read now stays true until this process changes it.
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return change.Position{}, fmt.Errorf("acquiring leadership: epoch: %w", err)
	}
	w.owner, w.epoch = owner, epoch
	position, err := w.load(ctx)
	if errors.Is(err, change.ErrFenced) {
		err = &Error{Step: "acquiring leadership", Class: ClassUnready, Err: errors.New("another process took the lead at the same time")}
	}
	if err != nil {
		w.owner = ""
		return change.Position{}, err
	}
	w.metrics.epoch.Set(float64(epoch))
	w.config.Logger.Info("leading the cache", zap.Int64("epoch", epoch), zap.Stringer("checkpoint", w.checkpoint),
		zap.Bool("complete", position.Complete), zap.String("reconcile", w.marker), zap.Int("teams", position.Teams), zap.Int("rows", w.index.rows()))
	return position, nil
}

// ownerID tells leaders apart by a random text, behind the name of the host, by which people know who leads.
func ownerID() string {
	host, _ := os.Hostname() // without a name there is less to read
	host = strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			return r
		}
		return '_'
	}, host[:min(len(host), 63)])
	return host + "/" + rand.Text()
}

// Confirm records the source that the cache was found to mirror.
func (w *Writer) Confirm(ctx context.Context, source change.Source) error {
	_, err := w.note(ctx, "recording the source", silent, "", sourceFields(source)...)
	return err
}

// Beat checks that the cache is still ours and shows that its leader is at work; if fresh, it also writes the heartbeat.
func (w *Writer) Beat(ctx context.Context, fresh bool) error {
	beat := working
	if fresh {
		beat = following
	}
	_, err := w.note(ctx, "checking the cache", beat, "")
	return err
}

// Mark sets the reconcile marker; a reason that is there already stays.
func (w *Writer) Mark(ctx context.Context, reason string) error {
	_, err := w.note(ctx, "setting the reconcile marker", silent, cmp.Or(reason, "unnamed reason"))
	return err
}

// What a note says of its leader.
const (
	silent    = 0
	working   = 1
	following = 2 // the source, closely
)

// note writes to meta alone and returns the name of the last step of a reconcile, if one has begun and none has completed since.
func (w *Writer) note(ctx context.Context, step string, beat int, reason string, fields ...any) (reconciling string, err error) {
	if w.owner == "" {
		return "", fmt.Errorf("%s: not acquired: %w", step, change.ErrFenced)
	}
	unseen := w.checkpoint
	if w.inflight != nil {
		unseen = w.inflight.through
	}
	args := append([]any{w.owner, w.epoch, lsnText(w.checkpoint), lsnText(unseen), beat, reason}, fields...)
	reply, err := w.call(ctx, step, noteScript, []string{w.keys.Meta}, args)
	if err != nil {
		return "", err
	}
	w.setMarker(reply)
	reconciling, _ = reply[2].(string)
	return reconciling, nil
}

// setMarker takes over the marker that Redis answered.
func (w *Writer) setMarker(reply []any) {
	marker, _ := reply[1].(string)
	w.marker = marker
	w.metrics.marked(marker)
}

// Apply makes a batch visible together with its checkpoint. What lies at or before the checkpoint is there already. pending is the marker after it.
func (w *Writer) Apply(ctx context.Context, batch change.Batch) (pending string, err error) {
	if w.owner == "" {
		return "", fmt.Errorf("applying a batch: not acquired: %w", change.ErrFenced)
	}
	txs := batch.Txs
	if w.inflight != nil && w.inflight.plan.marker != "" {
		txs = nil // as below: this is the batch of which a part was sent
	}
	if err := w.resend(ctx); err != nil {
		return "", err
	}
	for len(txs) > 0 {
		if txs[0].EndLSN <= w.checkpoint {
			txs = txs[1:] // a replay
			continue
		}
		in, err := w.prepare(ctx, txs[:fitting(txs)])
		if err != nil {
			return "", err
		}
		if txs = txs[in.txs:]; len(txs) == 0 {
			in.through = max(in.through, batch.Through)
		}
		if err := w.send(ctx, in); err != nil {
			return "", err
		}
		if in.plan.marker != "" {
			break // what follows builds on what was left out: the reconcile covers it
		}
	}
	if batch.Through > w.checkpoint {
		if err := w.send(ctx, &inflight{plan: &plan{index: w.index}, through: batch.Through}); err != nil {
			return "", err
		}
	}
	return w.marker, nil
}

// resend settles a batch whose reply was lost. The script finds it there, or writes it now: its transactions are committed, so that is never wrong.
func (w *Writer) resend(ctx context.Context) error {
	if w.inflight == nil {
		return nil
	}
	return w.send(ctx, w.inflight)
}

// fitting returns how many transactions go into the next script: whole ones only.
func fitting(txs []*change.Tx) int {
	n, size := 1, txs[0].Bytes
	for n < len(txs) && size+txs[n].Bytes <= maxBatch {
		size += txs[n].Bytes
		n++
	}
	return n
}

// prepare plans transactions, fewer of them if unchanged columns make them too large for one script.
func (w *Writer) prepare(ctx context.Context, txs []*change.Tx) (*inflight, error) {
	p, err := w.plan(ctx, txs)
	tooLarge := errors.Is(err, errTooLarge)
	if len(txs) > 1 && (tooLarge || err == nil && (p.bytes > maxBatch || len(p.order) > maxRows || p.partial)) {
		return w.prepare(ctx, txs[:len(txs)/2])
	}
	if tooLarge || err == nil && (p.bytes > maxTx || len(p.order) > maxRows) {
		p = &plan{index: w.index, marker: fmt.Sprintf("the transaction that ends at %v is too large for one script", txs[0].EndLSN)}
	} else if err != nil {
		return nil, err
	}
	if p.partial { // readers see whole transactions or nothing of them
		p = &plan{index: w.index, marker: p.marker}
	}
	last := txs[len(txs)-1]
	in := &inflight{plan: p, through: last.EndLSN, commitTime: last.CommitTime, txs: len(txs)}
	for _, tx := range txs {
		in.rows += len(tx.Changes)
	}
	return in, nil
}

// plan reads what the plan needs and computes it.
func (w *Writer) plan(ctx context.Context, txs []*change.Tx) (*plan, error) {
	if w.replacing {
		return &plan{index: w.index, marker: cmp.Or(w.marker, "an unfinished reconcile")}, nil
	}
	stored, err := w.fetch(ctx, reads(w.index, txs))
	if err != nil {
		return nil, err
	}
	p, err := newPlan(w.index, txs, stored)
	if err != nil {
		return nil, &Error{Step: "planning a batch", Class: ClassOther, Err: err}
	}
	return p, nil
}

// errTooLarge says that a batch needs more stored records than fit in memory.
var errTooLarge = errors.New("too many stored records")

// fetch reads records. One that the cache lacks is absent from the result.
func (w *Writer) fetch(ctx context.Context, places []place) (map[row][]byte, error) {
	const step, perTrip = "reading stored records", 500
	stored := make(map[row][]byte, len(places))
	size := 0
	for len(places) > 0 {
		trip := places[:min(perTrip, len(places))]
		places = places[len(trip):]
		stepCtx, cancel := w.within(ctx)
		pipe := w.config.Client.Pipeline()
		replies := make([]*redis.StringCmd, len(trip))
		for i, at := range trip {
			replies[i] = pipe.HGet(stepCtx, w.keys.Team(at.team), flagcache.Field(at.row.entity, at.row.key))
		}
		_, err := pipe.Exec(stepCtx)
		if err != nil && !errors.Is(err, redis.Nil) {
			err = w.classify(stepCtx, step, err)
		} else {
			err = nil
		}
		cancel()
		if err != nil {
			return nil, err
		}
		for i, reply := range replies {
			record, err := reply.Bytes()
			if err != nil && !errors.Is(err, redis.Nil) { // every reply is looked at: the first error of a pipeline hides others
				return nil, w.classify(ctx, step, err)
			}
			if err == nil {
				stored[trip[i].row] = record
				size += len(record)
			}
		}
		if size > maxStored {
			return nil, errTooLarge
		}
	}
	return stored, nil
}

// send runs the script of a planned batch. If the reply is lost, the batch stays in flight: it is in Redis or it is not, and sending it again tells.
func (w *Writer) send(ctx context.Context, in *inflight) error {
	w.inflight = in
	commitTime := ""
	if !in.commitTime.IsZero() {
		commitTime = strconv.FormatInt(in.commitTime.UnixMicro(), 10)
	}
	keys, args := w.operations([]any{
		w.owner, w.epoch, lsnText(w.checkpoint), lsnText(in.through), commitTime, flagcache.Version(w.epoch, uint64(in.through)), in.plan.marker, "", "", "",
	}, in.plan.sorted(), in.plan.tokens)
	reply, err := w.call(ctx, "applying a batch", applyScript, keys, args)
	if err != nil {
		return err
	}
	// Rows and checkpoint are in Redis. A crash here loses nothing: the next leader finds both.
	in.plan.commit()
	w.checkpoint, w.inflight = in.through, nil
	w.setMarker(reply)
	w.metrics.applied(in, reply[2], w.index.rows())
	return nil
}

// lsnText is the checkpoint as meta holds it: the empty string for none.
func lsnText(l change.LSN) string {
	if l == 0 {
		return ""
	}
	return l.String()
}
