package sessions

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	// sweepLease is how long a session that is to be closed is left to the replica
	// that took it; another one tries then.
	sweepLease = 30 * time.Second
	// sweepBatch is how many are taken at a time.
	sweepBatch = 100
	// unrecorded is after how long a deadline without a record is a leftover.
	unrecorded = time.Minute
)

// keeper is who the audit says closed a session whose time was over.
var keeper = Actor{Subject: "sconce"}

// ending is when a session is closed by itself, and why. The zero time: never, as things
// are; where why is "", it is only to be looked at again.
func (m *Manager) ending(s Session) (at time.Time, why string) {
	if at = s.ExpiresAt(); !at.IsZero() {
		why = fmt.Sprintf("its maximum age of %s was over", s.MaxAge)
	}
	c := m.Clusters[s.Cluster]
	if c == nil || c.Policy.CloseUnusedAfter == 0 {
		return at, why
	}
	after := c.Policy.CloseUnusedAfter
	unused, reason := s.CreatedAt.Add(after), fmt.Sprintf("nobody had used it for %s", after)
	if !s.UsedAt.IsZero() {
		unused = s.UsedAt.Add(after)
	}
	if s.State == Active && c.Launcher != nil { // it becomes idle first, or is to have its engine always
		unused, reason = m.Now().Add(after), ""
	}
	if at.IsZero() || unused.Before(at) {
		return unused, reason
	}
	return at, why
}

// Expires is when a session is closed by itself, as things are; zero = it is not. Where
// that is for want of use it is told only of one that is not active.
func (m *Manager) Expires(s Session) time.Time {
	if s.State == Closed {
		return time.Time{}
	}
	if s.State == Active {
		return s.ExpiresAt()
	}
	at, _ := m.ending(s)
	return at
}

// schedule has a new session looked at when its time is over. The first look is soon: it
// finds whether the session came to be.
func (m *Manager) schedule(ctx context.Context, s Session) error {
	at, _ := m.ending(s)
	if m.Deadlines == nil || at.IsZero() {
		return nil
	}
	if first := m.Now().Add(unrecorded + time.Second); first.Before(at) {
		at = first
	}
	return m.Deadlines.SetDue(ctx, s.ID, at)
}

// closeAged closes sessions whose time is over, until ctx ends. Every replica does
// it; the registry gives each session to one of them.
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
			m.Logger.Debug("which sessions are to be closed is not known", zap.Error(err))
			return
		}
		for _, id := range due {
			if err := m.closeDue(ctx, id); err != nil && ctx.Err() == nil {
				m.Logger.Warn("session whose time is over could not be closed, it is tried again",
					zap.String("session", string(id)), zap.Duration("after", sweepLease), zap.Error(err))
			}
		}
		if len(due) < sweepBatch {
			return
		}
	}
}

func (m *Manager) closeDue(ctx context.Context, id ID) error {
	found, err := m.Store.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case len(found) == 0 && m.Now().Sub(id.Time()) < unrecorded:
		return nil // its create may be under way
	case len(found) == 0:
		return m.Deadlines.DropDue(ctx, id)
	case found[0].State == Closed: // its close was cut short: this does the rest
		if _, err := m.close(ctx, id, found[0].Reason); err != nil {
			return err
		}
		return m.Deadlines.DropDue(ctx, id)
	}
	switch at, why := m.ending(found[0]); {
	case at.IsZero():
		return m.Deadlines.DropDue(ctx, id)
	case why == "" || m.Now().Before(at):
		return m.Deadlines.PutOff(ctx, id, at)
	default:
		return m.closeFor(ctx, id, why)
	}
}

func (m *Manager) closeFor(ctx context.Context, id ID, why string) error {
	entry := &entryOfAudit{log: m.audit, trail: m.Audit, now: m.Now, actor: keeper, action: ActionClose, session: id}
	_, err := m.close(ctx, id, why)
	entry.end(err)
	return err
}
