package proxy

import (
	"sync"
	"time"

	"github.com/sconce-dev/sconce/auth"
)

// maxTokenMeters bounds the tokens of one session that are counted each by itself.
const maxTokenMeters = 1024

// meters makes the meters of those who have streams here. The process's is one;
// an owner's and an organisation's are kept while a session of theirs is in Live; a
// session's is part of its liveSession, and so are those of its tokens.
type meters struct {
	quotas  Quotas
	now     func() time.Time
	start   time.Time
	process meter

	mu     sync.Mutex
	owners map[ownerKey]*ownerMeter
	orgs   map[string]*orgMeter
}

type ownerKey struct{ org, subject string }

type ownerMeter struct {
	meter
	key      ownerKey
	sessions int // that count on it; guarded by meters.mu
}

type orgMeter struct {
	meter
	owners int // that count on it; guarded by meters.mu
}

func newMeters(q Quotas, now func() time.Time) *meters {
	ms := &meters{quotas: q, now: now, start: now(), owners: make(map[ownerKey]*ownerMeter), orgs: make(map[string]*orgMeter)}
	ms.process.init(q.Process, "process", nil)
	return ms
}

// at is t on the clock of the buckets.
func (ms *meters) at(t time.Time) int64 { return int64(t.Sub(ms.start)) }

// of returns the meter of a token. s is of its session, and as long as s is not
// retired the meter stays in use.
func (ms *meters) of(s *liveSession, id *auth.Identity) *meter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return &ms.process // nobody enters by s any more
	}
	if s.meters == nil {
		s.meters = ms
		s.owner = ms.owner(ownerKey{id.Org, id.Subject})
		s.meter.init(ms.quotas.Session, "session", &s.owner.meter)
		s.tokens = make(map[string]*meter)
	}
	m := s.tokens[id.TokenID]
	if m == nil {
		if len(s.tokens) >= maxTokenMeters && !s.forgetTokens() {
			return &s.meter
		}
		m = new(meter)
		m.init(ms.quotas.Token, "token", &s.meter)
		s.tokens[id.TokenID] = m
	}
	return m
}

// forgetTokens drops the meters of tokens without streams or uploads, and says whether
// there were any. The caller holds s.mu.
func (s *liveSession) forgetTokens() bool {
	before, now := len(s.tokens), s.meters.at(s.meters.now())
	for id, m := range s.tokens {
		if m.open.Load() == 0 && m.rested(now) {
			delete(s.tokens, id)
		}
	}
	return len(s.tokens) < before
}

func (ms *meters) owner(key ownerKey) *ownerMeter {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	o := ms.owners[key]
	if o == nil {
		o = &ownerMeter{key: key}
		o.init(ms.quotas.Owner, "owner", &ms.org(key.org).meter)
		ms.owners[key] = o
	}
	o.sessions++
	return o
}

// org is under mu.
func (ms *meters) org(name string) *orgMeter {
	o := ms.orgs[name]
	if o == nil {
		o = &orgMeter{}
		o.init(ms.quotas.Org, "org", &ms.process)
		ms.orgs[name] = o
	}
	o.owners++
	return o
}

// leaves takes back one owner; nil is that of a session without a stream so far.
func (ms *meters) leaves(o *ownerMeter) {
	if o == nil {
		return
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if o.sessions--; o.sessions > 0 {
		return
	}
	delete(ms.owners, o.key)
	org := ms.orgs[o.key.org]
	if org.owners--; org.owners == 0 {
		delete(ms.orgs, o.key.org)
	}
}

// rested says that the session's counts of artifacts, and its owner's and their
// organisation's, tell nothing any more. The caller holds s.mu.
func (s *liveSession) rested() bool {
	if s.meters == nil {
		return true
	}
	now := s.meters.at(s.meters.now())
	for m := &s.meter; m != &s.meters.process; m = m.up {
		if !m.rested(now) {
			return false
		}
	}
	return true
}
