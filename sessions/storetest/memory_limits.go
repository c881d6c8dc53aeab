package storetest

import (
	"context"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// MaxOwned and MaxInOrg are how many open sessions one owner and one
// organisation may have in the registry that the suite is given.
const (
	MaxOwned = 30
	MaxInOrg = 36
)

// Limit bounds the open sessions of an owner and of an organisation; 0 = no limit.
func (m *Memory) Limit(owned, inOrg int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limits = [2]int{owned, inOrg}
}

// full says which limit n would break. Under mu.
func (m *Memory) full(n sessions.Session) error {
	owned, inOrg := 0, 0
	for _, s := range m.records {
		if s.State == sessions.Closed || s.Org != n.Org {
			continue
		}
		inOrg++
		if s.Owner == n.Owner {
			owned++
		}
	}
	switch {
	case m.limits[0] > 0 && owned >= m.limits[0]:
		return &sessions.LimitError{Limit: sessions.LimitPerOwner, Max: m.limits[0]}
	case m.limits[1] > 0 && inOrg >= m.limits[1]:
		return &sessions.LimitError{Limit: sessions.LimitPerOrg, Max: m.limits[1]}
	}
	return nil
}

// SetDue implements sessions.Deadlines.
func (m *Memory) SetDue(ctx context.Context, id sessions.ID, at time.Time) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.due[id] = at
	return nil
}

// PutOff implements sessions.Deadlines.
func (m *Memory) PutOff(ctx context.Context, id sessions.ID, at time.Time) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if _, due := m.due[id]; due {
		m.due[id] = at
	}
	return nil
}

// TakeDue implements sessions.Deadlines.
func (m *Memory) TakeDue(ctx context.Context, now, again time.Time, limit int) (due []sessions.ID, err error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	for id, at := range m.due {
		if len(due) < limit && !at.After(now) {
			due = append(due, id)
			m.due[id] = again
		}
	}
	return due, nil
}

// DropDue implements sessions.Deadlines.
func (m *Memory) DropDue(ctx context.Context, id sessions.ID) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	delete(m.due, id)
	return nil
}
