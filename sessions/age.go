package sessions

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	// sweepLease is how long a session that is to be closed for its age is left to
	// the replica that took it; another one tries then.
	sweepLease = 30 * time.Second
	// sweepBatch is how many are taken at a time.
	sweepBatch = 100
	// unrecorded is after how long a deadline without a record is a leftover.
	unrecorded = time.Minute
)

// keeper is who the audit says closed a session for its age.
var keeper = Actor{Subject: "sconce"}

// closeAged closes sessions whose maximum age is over, until ctx ends. Every
// replica does it; the registry gives each session to one of them.
func (m *Manager) closeAged(ctx context.Context) {
	if m.Deadlines == nil {
		return
	}
	tick := time.NewTicker(m.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.sweepAged(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// sweepAged closes what is due now. What fails is due again after sweepLease.
func (m *Manager) sweepAged(ctx context.Context) {
	for ctx.Err() == nil {
		now := m.Now()
		due, err := m.Deadlines.TakeDue(ctx, now, now.Add(sweepLease), sweepBatch)
		if err != nil {
			m.Logger.Debug("sessions of age are not known", zap.Error(err))
			return
		}
		for _, id := range due {
			if err := m.closeForAge(ctx, id); err != nil && ctx.Err() == nil {
				m.Logger.Warn("session could not be closed for its age, it is tried again",
					zap.String("session", string(id)), zap.Duration("after", sweepLease), zap.Error(err))
			}
		}
		if len(due) < sweepBatch {
			return
		}
	}
}

func (m *Manager) closeForAge(ctx context.Context, id ID) error {
	found, err := m.Store.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case len(found) == 0 && m.Now().Sub(id.Time()) < unrecorded:
		return nil // its create may be under way
	case len(found) == 0:
		return m.Deadlines.DropDue(ctx, id)
	case found[0].State == Closed:
		return m.Deadlines.DropDue(ctx, id)
	}
	entry := &entryOfAudit{log: m.audit, trail: m.Audit, now: m.Now, actor: keeper, action: ActionClose, session: id}
	_, err = m.close(ctx, id, fmt.Sprintf("its maximum age of %s was over", found[0].MaxAge))
	entry.end(err)
	return err
}
