package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// Memory is a registry without a network, for tests that run on a fake clock. It
// passes the suite, and it can be made to fail: methods of it whose name says so
// may be called at any time.
type Memory struct {
	mu          sync.Mutex
	records     map[sessions.ID]sessions.Session
	requests    map[[3]string]sessions.ID // organisation, owner, request
	bound       map[sessions.ID][]sessions.SparkID
	holder      map[sessions.SparkID]sessions.ID
	tokens      map[sessions.ID][]sessions.Token
	turns       map[sessions.SparkID]turn
	due         map[sessions.ID]time.Time
	limits      [2]int // open sessions of an owner, of an organisation; 0 = no limit
	tokenLimits [2]int // open tokens of an owner, of an organisation; 0 = no limit
	journals    map[sessions.ID]*memoryJournal
	keys        map[string]sessions.Key
	watchers    map[*watcher]struct{}
	engines     engines
	drains      map[string]sessions.Drain

	fault  error
	silent bool
	gets   int
	gate   chan struct{}
}

type watcher struct {
	changed func(sessions.Change)
	lost    chan struct{}
}

// NewMemory makes an empty registry with MaxBound, MaxTokens and MaxKeys.
func NewMemory() *Memory {
	return &Memory{
		records:  map[sessions.ID]sessions.Session{},
		requests: map[[3]string]sessions.ID{},
		bound:    map[sessions.ID][]sessions.SparkID{},
		holder:   map[sessions.SparkID]sessions.ID{},
		tokens:   map[sessions.ID][]sessions.Token{},
		turns:    map[sessions.SparkID]turn{},
		due:      map[sessions.ID]time.Time{},
		journals: map[sessions.ID]*memoryJournal{},
		keys:     map[string]sessions.Key{},
		watchers: map[*watcher]struct{}{},
		engines:  newEngines(),
		drains:   map[string]sessions.Drain{},
	}
}

// Fail has every call return err, and drops the watchers; nil = works again.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	m.fault = err
	m.mu.Unlock()
	if err != nil {
		m.Disconnect()
	}
}

// Disconnect drops the watchers.
func (m *Memory) Disconnect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.watchers {
		close(w.lost)
		delete(m.watchers, w)
	}
}

// Silence has changes happen without a word to the watchers.
func (m *Memory) Silence(silent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = silent
}

// Forget loses a record.
func (m *Memory) Forget(id sessions.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, id)
}

// Put writes a record as it is.
func (m *Memory) Put(s sessions.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[s.ID] = s
}

// Gate has Get wait until the channel is closed; nil = no gate.
func (m *Memory) Gate(gate chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate = gate
}

// Gets returns how often Get was called.
func (m *Memory) Gets() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gets
}

// Create implements sessions.Store.
func (m *Memory) Create(ctx context.Context, n sessions.Session, requestID string) (sessions.Session, error) {
	if err := m.enter(ctx); err != nil {
		return sessions.Session{}, err
	}
	defer m.mu.Unlock()
	request := [3]string{n.Org, n.Owner, requestID}
	if id, ok := m.requests[request]; ok && requestID != "" {
		return m.records[id], nil
	}
	if n.Name == "" {
		n.Name = string(n.ID)
	}
	if _, taken := m.open(n.Org, n.Owner, n.Name); taken {
		return sessions.Session{}, sessions.ErrNameTaken
	}
	if err := m.full(n); err != nil {
		return sessions.Session{}, err
	}
	n.Generation, n.Revision, n.ChangedAt = 0, 1, n.CreatedAt
	m.records[n.ID], m.requests[request] = n, n.ID
	return n, nil
}

// Unrequest implements sessions.Store.
func (m *Memory) Unrequest(ctx context.Context, s sessions.Session, requestID string) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if request := [3]string{s.Org, s.Owner, requestID}; m.requests[request] == s.ID {
		delete(m.requests, request)
	}
	return nil
}

// open returns the session that has the name. Under mu.
func (m *Memory) open(org, owner, name string) (sessions.Session, bool) {
	for _, s := range m.records {
		if s.Org == org && s.Owner == owner && s.Name == name && s.State != sessions.Closed {
			return s, true
		}
	}
	return sessions.Session{}, false
}

// Get implements sessions.Store.
func (m *Memory) Get(ctx context.Context, ids ...sessions.ID) ([]sessions.Session, error) {
	m.mu.Lock()
	gate := m.gate
	m.gets++
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, errors.Join(sessions.ErrUnavailable, ctx.Err())
		}
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var found []sessions.Session
	for _, id := range ids {
		if s, ok := m.records[id]; ok {
			found = append(found, s)
		}
	}
	return found, nil
}

// List implements sessions.Store.
func (m *Memory) List(ctx context.Context, q sessions.Query) (sessions.Page, error) {
	if err := m.enter(ctx); err != nil {
		return sessions.Page{}, err
	}
	defer m.mu.Unlock()
	all := slices.SortedFunc(maps.Values(m.records), func(a, b sessions.Session) int {
		return strings.Compare(string(b.ID), string(a.ID))
	})
	var page sessions.Page
	for _, s := range all {
		if !selects(q, s) {
			continue
		}
		if len(page.Sessions) == q.Limit {
			page.Next = page.Sessions[q.Limit-1].ID
			break
		}
		page.Sessions = append(page.Sessions, s)
	}
	return page, nil
}

func selects(q sessions.Query, s sessions.Session) bool {
	return s.Org == q.Org && (q.Owner == "" || s.Owner == q.Owner) &&
		(q.Name == "" || s.Name == q.Name && s.State != sessions.Closed) &&
		(q.Closed || s.State != sessions.Closed) && (q.After == "" || s.ID < q.After) &&
		s.Labels.Has(q.Labels)
}

// Transition implements sessions.Store.
func (m *Memory) Transition(ctx context.Context, id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	if err := m.enter(ctx); err != nil {
		return sessions.Session{}, err
	}
	s, err := m.transition(id, t)
	var tell []*watcher
	if err == nil && !m.silent {
		tell = slices.Collect(maps.Keys(m.watchers))
	}
	m.mu.Unlock()
	for _, w := range tell {
		w.changed(sessions.Change{ID: id, State: s.State, Generation: s.Generation, Revision: s.Revision})
	}
	return s, err
}

// transition changes a record. Under mu.
func (m *Memory) transition(id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	s, ok := m.records[id]
	switch {
	case !ok:
		return s, sessions.ErrNotFound
	case !t.Allowed():
		return sessions.Session{}, sessions.ErrConflict
	case s.State == sessions.Closed && t.To == sessions.Closed:
		return s, nil
	case s.State == sessions.Closed:
		return sessions.Session{}, sessions.ErrClosed
	case t.From != "" && (t.From != s.State || t.Generation != s.Generation), !m.unused(s, t):
		return sessions.Session{}, sessions.ErrConflict
	}
	s.State, s.Reason, s.ChangedAt = t.To, t.Reason, t.At
	s.Revision++
	s.Stage, s.StageAt = "", time.Time{}
	if t.To == sessions.Active {
		s.Generation++
		s.UsedAt, s.WakeFailure = m.clock().Add(-t.Skew).UTC(), ""
	}
	if t.To == sessions.Idle {
		s.IdleAt = t.At
	}
	if t.Engine != nil {
		if s.Engine == nil || s.Engine.ID != t.Engine.ID {
			delete(m.engines.running, id)
			s.EngineGeneration = s.Generation
		}
		s.Engine = t.Engine
	}
	if t.To == sessions.Closed {
		s.ClosedAt = t.At
		s.Conf, s.Revoked, s.WakeFailure, s.Stage, s.StageAt = "", "", "", "", time.Time{}
		if len(s.Labels) > 1024 {
			s.Labels = ""
		}
		delete(m.engines.running, id)
		delete(m.due, id)
		delete(m.journals, id)
	}
	m.records[id] = s
	return s, nil
}

// Bound implements sessions.Store.
func (m *Memory) Bound(ctx context.Context, id sessions.ID) ([]sessions.SparkID, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return slices.Clone(m.bound[id]), nil
}

// Bind implements sessions.Directory.
func (m *Memory) Bind(ctx context.Context, id sessions.ID, spark sessions.SparkID) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	s, ok := m.records[id]
	holder, held := m.holder[spark]
	switch {
	case !ok:
		return sessions.ErrNotFound
	case held && holder != id:
		return sessions.ErrForeignSpark
	case s.State == sessions.Closed:
		m.holder[spark] = id
		return sessions.ErrClosed
	case slices.Contains(m.bound[id], spark):
		return nil
	case len(m.bound[id]) >= MaxBound:
		return sessions.ErrTooManyBound
	}
	m.holder[spark] = id
	m.bound[id] = append(m.bound[id], spark)
	return nil
}

// Watch implements sessions.Directory.
func (m *Memory) Watch(ctx context.Context, ready func(), changed func(sessions.Change)) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	w := &watcher{changed: changed, lost: make(chan struct{})}
	m.watchers[w] = struct{}{}
	m.mu.Unlock()
	ready()
	select {
	case <-w.lost:
		return sessions.ErrUnavailable
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.watchers, w)
		m.mu.Unlock()
		return ctx.Err()
	}
}

// enter takes the lock, unless the call is to fail.
func (m *Memory) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	if m.fault != nil {
		defer m.mu.Unlock()
		return m.fault
	}
	return nil
}
