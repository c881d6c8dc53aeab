package storetest

import (
	"context"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// MaxOwnedEngines and MaxOrgEngines are how many engines one owner and one
// organisation may have up in the registry that the suite is given.
const (
	MaxOwnedEngines = 3
	MaxOrgEngines   = 5
)

// LimitEngines bounds the engines that an owner and an organisation have up; 0 = no
// limit.
func (m *Memory) LimitEngines(owned, inOrg int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engines.most = [2]int{owned, inOrg}
}

// TakePlace implements sessions.EngineStore.
func (m *Memory) TakePlace(ctx context.Context, key sessions.EngineKey, p sessions.Place) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	owned, inOrg := m.places(key, p)
	switch most := m.engines.most; {
	case most[0] > 0 && owned >= most[0]:
		return &sessions.LimitError{Limit: sessions.LimitEnginesPerOwner, Max: most[0]}
	case most[1] > 0 && inOrg >= most[1]:
		return &sessions.LimitError{Limit: sessions.LimitEnginesPerOrg, Max: most[1]}
	}
	m.engines.places[key] = p
	return nil
}

// places counts those of p's owner and organisation, but for p itself. Under mu.
func (m *Memory) places(key sessions.EngineKey, p sessions.Place) (owned, inOrg int) {
	count := func(k sessions.EngineKey, other sessions.Place) {
		if other.Org != p.Org || k == key && other.Lease == p.Lease {
			return
		}
		inOrg++
		if other.Owner == p.Owner {
			owned++
		}
	}
	for k, e := range m.engines.up {
		count(k, e.Place)
	}
	for k, other := range m.engines.places {
		l := m.engines.leases["e:"+string(k)]
		up := m.engines.up[k]
		if l.token == other.Lease && time.Now().Before(l.until) && (up == nil || up.Place != other) {
			count(k, other)
		}
	}
	return owned, inOrg
}

// FreePlace implements sessions.EngineStore.
func (m *Memory) FreePlace(ctx context.Context, key sessions.EngineKey, p sessions.Place) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.engines.places[key] == p {
		delete(m.engines.places, key)
	}
	return nil
}
