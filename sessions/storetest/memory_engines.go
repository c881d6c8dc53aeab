package storetest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// engines is what a Memory knows beside records.
type engines struct {
	up      map[sessions.EngineKey]*sessions.EngineRecord
	leases  map[string]lease
	shift   time.Duration
	looks   map[sessions.ID]time.Time
	running map[sessions.ID]map[string]time.Time
	streams map[sessions.ID]map[string]toldStreams
	over    map[sessions.ID]map[string]time.Time  // released
	places  map[sessions.EngineKey]sessions.Place // of launches under way
	onTouch func([]sessions.Use)
	most    [2]int // engines of an owner, of an organisation; 0 = no limit
}

type lease struct {
	token string
	until time.Time
}

// operationsKept is the registry's: see redisstore.
const operationsKept = 5 * time.Minute

// releasedKept too.
const releasedKept = 30 * time.Second

func newEngines() engines {
	return engines{
		up: map[sessions.EngineKey]*sessions.EngineRecord{}, leases: map[string]lease{},
		places: map[sessions.EngineKey]sessions.Place{},
		looks:  map[sessions.ID]time.Time{}, running: map[sessions.ID]map[string]time.Time{},
		streams: map[sessions.ID]map[string]toldStreams{}, over: map[sessions.ID]map[string]time.Time{},
	}
}

// JoinEngine implements sessions.EngineStore.
func (m *Memory) JoinEngine(ctx context.Context, key sessions.EngineKey, id sessions.ID, generation uint64) (sessions.Instance, error) {
	if err := m.enter(ctx); err != nil {
		return sessions.Instance{}, err
	}
	defer m.mu.Unlock()
	e := m.engines.up[key]
	if e == nil {
		return sessions.Instance{}, sessions.ErrEngineDown
	}
	e.Members[id] = max(e.Members[id], generation)
	return e.Instance, nil
}

// PutEngine implements sessions.EngineStore.
func (m *Memory) PutEngine(ctx context.Context, e sessions.EngineRecord, token string) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	l, up := m.engines.leases["e:"+string(e.Key)], m.engines.up[e.Key]
	switch {
	case up != nil && up.ID == e.ID:
		return nil
	case l.token != token || !time.Now().Before(l.until):
		return sessions.ErrLeaseLost
	case up != nil:
		return sessions.ErrConflict
	}
	e.Members = maps.Clone(e.Members)
	m.engines.up[e.Key] = &e
	delete(m.engines.places, e.Key)
	return nil
}

// LeaveEngine implements sessions.EngineStore.
func (m *Memory) LeaveEngine(ctx context.Context, key sessions.EngineKey, id sessions.ID, generation uint64) (*sessions.Instance, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	e := m.engines.up[key]
	if e == nil {
		return nil, nil
	}
	joined, ok := e.Members[id]
	if !ok || joined > generation {
		return nil, nil
	}
	delete(e.Members, id)
	if len(e.Members) > 0 {
		return nil, nil
	}
	delete(m.engines.up, key)
	return &e.Instance, nil
}

// DropEngine implements sessions.EngineStore.
func (m *Memory) DropEngine(ctx context.Context, key sessions.EngineKey, instance string) (map[sessions.ID]uint64, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	e := m.engines.up[key]
	if e == nil || e.ID != instance {
		return map[sessions.ID]uint64{}, nil
	}
	delete(m.engines.up, key)
	return e.Members, nil
}

// Engines implements sessions.EngineStore.
func (m *Memory) Engines(ctx context.Context) ([]sessions.EngineRecord, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var up []sessions.EngineRecord
	for _, e := range m.engines.up {
		one := *e
		one.Members = maps.Clone(e.Members)
		up = append(up, one)
	}
	return up, nil
}

// LeaseEngine implements sessions.EngineStore.
func (m *Memory) LeaseEngine(ctx context.Context, key sessions.EngineKey, token string, ttl time.Duration) (bool, error) {
	return m.lease(ctx, "e:"+string(key), token, ttl)
}

// UnleaseEngine implements sessions.EngineStore.
func (m *Memory) UnleaseEngine(ctx context.Context, key sessions.EngineKey, token string) error {
	return m.unlease(ctx, "e:"+string(key), token)
}

// EngineLeased implements sessions.EngineStore.
func (m *Memory) EngineLeased(ctx context.Context, key sessions.EngineKey) (bool, error) {
	if err := m.enter(ctx); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	return time.Now().Before(m.engines.leases["e:"+string(key)].until), nil
}

// LeaseSession implements sessions.EngineStore.
func (m *Memory) LeaseSession(ctx context.Context, id sessions.ID, token string, ttl time.Duration) (bool, error) {
	return m.lease(ctx, "s:"+string(id), token, ttl)
}

// UnleaseSession implements sessions.EngineStore.
func (m *Memory) UnleaseSession(ctx context.Context, id sessions.ID, token string) error {
	return m.unlease(ctx, "s:"+string(id), token)
}

// StealAll has every lease run out, as if its holder had been asleep for too long.
func (m *Memory) StealAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.engines.leases)
}

// Shift moves the registry's clock.
func (m *Memory) Shift(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engines.shift += by
}

// clock is the registry's time. Under mu.
func (m *Memory) clock() time.Time { return time.Now().Add(m.engines.shift) }

func (m *Memory) lease(ctx context.Context, name, token string, ttl time.Duration) (bool, error) {
	if err := m.enter(ctx); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	now := time.Now()
	if l, ok := m.engines.leases[name]; ok && l.token != token && now.Before(l.until) {
		return false, nil
	}
	m.engines.leases[name] = lease{token, now.Add(ttl)}
	return true, nil
}

func (m *Memory) unlease(ctx context.Context, name, token string) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.engines.leases[name].token == token {
		delete(m.engines.leases, name)
	}
	return nil
}

// OnTouch has f see what Touch is told.
func (m *Memory) OnTouch(f func([]sessions.Use)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engines.onTouch = f
}

// Touch implements sessions.UseStore.
func (m *Memory) Touch(ctx context.Context, uses []sessions.Use) (map[sessions.ID][]string, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if m.engines.onTouch != nil {
		m.engines.onTouch(uses)
	}
	now := m.clock()
	released := map[sessions.ID][]string{}
	for _, u := range uses {
		s, ok := m.records[u.ID]
		if !ok || s.State == sessions.Closed {
			continue
		}
		s.UsedAt = now
		m.records[u.ID] = s
		ops := m.engines.running[u.ID]
		if ops == nil {
			ops = map[string]time.Time{}
			m.engines.running[u.ID] = ops
		}
		over := m.engines.over[u.ID]
		if over == nil {
			over = map[string]time.Time{}
			m.engines.over[u.ID] = over
		}
		for _, op := range u.Running {
			if at, ok := over[op]; ok && now.Sub(at) < releasedKept {
				released[u.ID] = append(released[u.ID], op)
				delete(ops, op)
			} else {
				ops[op] = now
			}
		}
		if m.engines.streams[u.ID] == nil {
			m.engines.streams[u.ID] = map[string]toldStreams{}
		}
		m.engines.streams[u.ID][u.Replica] = toldStreams{now, u.Streams}
		for _, op := range u.Over {
			delete(ops, op)
		}
		for _, op := range u.Released {
			delete(ops, op)
			over[op] = now
		}
	}
	return released, nil
}

// unused says whether a session was not used for so long. Under mu.
func (m *Memory) unused(s sessions.Session, t sessions.Transition) bool {
	now := m.clock().Add(-t.Skew)
	if t.Unused > 0 && now.Sub(s.UsedAt) < t.Unused {
		return false
	}
	maps.DeleteFunc(m.engines.running[s.ID], func(_ string, at time.Time) bool { return now.Sub(at) > operationsKept })
	return t.Unused == 0 || len(m.engines.running[s.ID]) == 0
}

// toldStreams is what a replica said of its open streams.
type toldStreams struct {
	at time.Time
	n  int64
}

const streamsKept = 15 * time.Second

// Streams implements sessions.UseStore.
func (m *Memory) Streams(ctx context.Context, id sessions.ID, replica string) (n int64, err error) {
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	for who, told := range m.engines.streams[id] {
		if who != replica && m.clock().Sub(told.at) <= streamsKept {
			n += told.n
		}
	}
	return n, nil
}

// Running implements sessions.UseStore.
func (m *Memory) Running(ctx context.Context, id sessions.ID) (n int, err error) {
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	for _, at := range m.engines.running[id] {
		if m.clock().Sub(at) <= operationsKept {
			n++
		}
	}
	return n, nil
}

// Clock implements sessions.UseStore.
func (m *Memory) Clock(ctx context.Context) (time.Time, error) {
	if err := m.enter(ctx); err != nil {
		return time.Time{}, err
	}
	defer m.mu.Unlock()
	return m.clock(), nil
}

// Schedule implements sessions.UseStore.
func (m *Memory) Schedule(ctx context.Context, id sessions.ID, at time.Time) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if !at.IsZero() {
		m.engines.looks[id] = at
	} else if !m.engines.looks[id].After(m.clock()) {
		delete(m.engines.looks, id)
	}
	return nil
}

// Scheduled implements sessions.UseStore.
func (m *Memory) Scheduled(ctx context.Context, at time.Time, limit int) ([]sessions.ID, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var due []sessions.ID
	for id, t := range m.engines.looks {
		if !t.After(at) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b sessions.ID) int { return m.engines.looks[a].Compare(m.engines.looks[b]) })
	return due[:min(len(due), limit)], nil
}

// SetStage implements sessions.UseStore.
func (m *Memory) SetStage(ctx context.Context, id sessions.ID, stage, failure string) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if s, ok := m.records[id]; ok {
		s.Stage, s.WakeFailure, s.StageAt = stage, failure, time.Time{}
		if stage != "" {
			s.StageAt = m.clock()
		}
		m.records[id] = s
	}
	return nil
}
