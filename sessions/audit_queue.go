package sessions

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// AuditStore keeps decisions; *redisstore.Store is one.
type AuditStore interface {
	// AppendAudit adds entries in their order. ErrUnavailable.
	AppendAudit(ctx context.Context, entries []AuditEntry) error
}

// AuditQueueConfig is what an AuditQueue is made of.
type AuditQueueConfig struct {
	Store AuditStore // required
	// Most is how many entries wait at most; what is beyond is counted, and said
	// in the log, and in the trail it is missing. 0 = 10,000.
	Most int
	// Batch is how many are written at a time. 0 = 100.
	Batch int
	// Timeout bounds one write. 0 = 2 s.
	Timeout time.Duration
	// Logger; nil = none.
	Logger *zap.Logger
}

// AuditQueue brings decisions to a store without any call waiting for it. It is
// an AuditTrail. An entry whose write failed is tried again until there is no room.
type AuditQueue struct {
	AuditQueueConfig
	entries chan AuditEntry
	dropped atomic.Uint64
}

// NewAuditQueue checks c and starts nothing. Call Run.
func NewAuditQueue(c AuditQueueConfig) (*AuditQueue, error) {
	if c.Store == nil {
		return nil, errors.New("audit queue: a store is needed")
	}
	setDefault(&c.Most, 10_000)
	setDefault(&c.Batch, 100)
	setDefault(&c.Timeout, 2*time.Second)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return &AuditQueue{AuditQueueConfig: c, entries: make(chan AuditEntry, c.Most)}, nil
}

// Add implements AuditTrail.
func (q *AuditQueue) Add(e AuditEntry) {
	select {
	case q.entries <- e:
	default:
		q.drop(1)
	}
}

// Dropped is how many entries were lost.
func (q *AuditQueue) Dropped() uint64 { return q.dropped.Load() }

// drop counts, and says so for the first of many.
func (q *AuditQueue) drop(n int) {
	if before := q.dropped.Add(uint64(n)) - uint64(n); before%1000 == 0 {
		q.Logger.Error("decisions are missing in the audit stream, they are in the log alone", zap.Uint64("missing", before+uint64(n)))
	}
}

// auditAgain is the pause after a write that failed.
const auditAgain = time.Second

// Run writes until ctx ends, and then what is left, once.
func (q *AuditQueue) Run(ctx context.Context) error {
	for {
		select {
		case e := <-q.entries:
			q.deliver(ctx, q.batch(e))
		case <-ctx.Done():
			q.rest(context.WithoutCancel(ctx))
			return ctx.Err()
		}
	}
}

// batch adds what waits already to the first entry.
func (q *AuditQueue) batch(first AuditEntry) []AuditEntry {
	batch := []AuditEntry{first}
	for len(batch) < q.Batch {
		select {
		case e := <-q.entries:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// deliver writes a batch, again and again until ctx ends; then once more.
func (q *AuditQueue) deliver(ctx context.Context, batch []AuditEntry) {
	for {
		err := q.write(context.WithoutCancel(ctx), batch)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			q.drop(len(batch))
			return
		}
		q.Logger.Debug("audit entries are not written yet", zap.Error(err))
		again := time.NewTimer(auditAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
		}
	}
}

// rest writes what waits at the end, as far as the store takes it.
func (q *AuditQueue) rest(ctx context.Context) {
	for {
		select {
		case e := <-q.entries:
			batch := q.batch(e)
			if err := q.write(ctx, batch); err != nil {
				q.drop(len(batch) + len(q.entries))
				return
			}
		default:
			return
		}
	}
}

func (q *AuditQueue) write(ctx context.Context, batch []AuditEntry) error {
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	return q.Store.AppendAudit(ctx, batch)
}
