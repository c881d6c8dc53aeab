package storetest

import (
	"context"
	"slices"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// turn is who prepares a Spark session, and until when.
type turn struct {
	holder string
	until  time.Time
}

// TakeTurn implements sessions.Turns.
func (m *Memory) TakeTurn(ctx context.Context, id sessions.ID, spark sessions.SparkID, holder string, lease time.Duration) (sessions.Turn, error) {
	if err := m.enter(ctx); err != nil {
		return "", err
	}
	defer m.mu.Unlock()
	s, ok := m.records[id]
	held, taken := m.turns[spark]
	switch {
	case !ok:
		return "", sessions.ErrNotFound
	case m.holder[spark] != "" && m.holder[spark] != id:
		return "", sessions.ErrForeignSpark
	case s.State == sessions.Closed:
		return "", sessions.ErrClosed
	case slices.Contains(m.bound[id], spark):
		return sessions.TurnOver, nil
	case len(m.bound[id]) >= MaxBound:
		return "", sessions.ErrTooManyBound
	case taken && held.holder != holder && time.Now().Before(held.until):
		return sessions.TurnTaken, nil
	}
	m.holder[spark], m.turns[spark] = id, turn{holder, time.Now().Add(lease)}
	return sessions.TurnMine, nil
}

// GiveTurn implements sessions.Turns.
func (m *Memory) GiveTurn(ctx context.Context, id sessions.ID, spark sessions.SparkID, holder string) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.turns[spark].holder == holder && m.holder[spark] == id {
		delete(m.turns, spark)
	}
	return nil
}
