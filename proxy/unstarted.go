package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions"
)

// Unstarted remembers operations whose ExecutePlan was answered UNAVAILABLE
// before anything of it reached an engine. Spark's clients follow such an answer
// with ReattachExecute, which an engine can only refuse; the proxy knows better
// and says that the operation was never found, at which they send the plan
// again (issue SPARK-44624).
//
// No method may block: an implementation that shares what it knows with other
// replicas does so in the background.
type Unstarted interface {
	// Remember: this operation of the session did not start. by is who sent it; nil =
	// that is not known yet, nor whether the session is theirs.
	Remember(by *auth.Identity, session sessions.ID, operation []byte)
	// Take says whether the operation is remembered of by, or of somebody who was not
	// known, and forgets it: the plan that the client sends next may start, and must not
	// be denied then.
	Take(by *auth.Identity, session sessions.ID, operation []byte) bool
}

const (
	// unstartedFor is how long Spark's clients keep trying.
	unstartedFor = 10 * time.Minute
	// unstartedMax bounds the memory: about 200 bytes each. So that one tenant's have
	// the places of no other's, one owner, and one session, has so many at most.
	unstartedMax       = 50_000
	unstartedOfOwner   = 2_000
	unstartedOfSession = 500
)

// unstarted is Unstarted for one process.
type unstarted struct {
	now func() time.Time
	any atomic.Bool // n is not 0: spares all others the lock

	mu sync.Mutex
	n  int
	of map[ownerKey]*ownUnstarted // none empty
}

// ownUnstarted are the operations of one owner.
type ownUnstarted struct {
	at       map[operation]time.Time
	old      []operation         // the same, in the order of Remember
	sessions map[sessions.ID]int // how many of each; never 0
}

type operation struct {
	session sessions.ID
	id      string
}

func newUnstarted(now func() time.Time) *unstarted {
	return &unstarted{now: now, of: make(map[ownerKey]*ownUnstarted)}
}

func (u *unstarted) Remember(by *auth.Identity, session sessions.ID, id []byte) {
	if len(id) == 0 {
		return
	}
	key, op, now := holder(by), operation{session, string(id)}, u.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n >= unstartedMax {
		u.makeRoom(now)
	}
	o := u.of[key]
	if o == nil {
		o = &ownUnstarted{at: make(map[operation]time.Time), sessions: make(map[sessions.ID]int)}
		u.of[key] = o
	}
	u.n -= o.remove(op) + o.expire(now)
	switch {
	case o.sessions[session] >= unstartedOfSession:
		u.n -= o.remove(o.old[slices.IndexFunc(o.old, func(have operation) bool { return have.session == session })])
	case len(o.old) >= unstartedOfOwner:
		u.n -= o.remove(o.old[0])
	}
	o.at[op] = now
	o.old = append(o.old, op)
	o.sessions[session]++
	u.n++
	u.any.Store(true)
}

// makeRoom forgets what nobody asks for any more, and else the oldest of who has most.
func (u *unstarted) makeRoom(now time.Time) {
	var most ownerKey
	for key, o := range u.of {
		u.n -= o.expire(now)
		switch {
		case len(o.old) == 0:
			delete(u.of, key)
		case u.of[most] == nil || len(o.old) > len(u.of[most].old):
			most = key
		}
	}
	if o := u.of[most]; u.n >= unstartedMax && o != nil {
		u.n -= o.remove(o.old[0])
		if len(o.old) == 0 {
			delete(u.of, most)
		}
	}
}

// expire returns how many it forgot.
func (o *ownUnstarted) expire(now time.Time) (n int) {
	for len(o.old) > 0 && now.Sub(o.at[o.old[0]]) > unstartedFor {
		n += o.remove(o.old[0])
	}
	return n
}

// remove returns how many there were of op: 1 or 0.
func (o *ownUnstarted) remove(op operation) int {
	if _, known := o.at[op]; !known {
		return 0
	}
	delete(o.at, op)
	if at := slices.Index(o.old, op); at == 0 {
		o.old = o.old[1:]
	} else {
		o.old = slices.Delete(o.old, at, at+1)
	}
	if o.sessions[op.session]--; o.sessions[op.session] == 0 {
		delete(o.sessions, op.session)
	}
	return 1
}

func (u *unstarted) Take(by *auth.Identity, session sessions.ID, id []byte) bool {
	if !u.any.Load() {
		return false
	}
	op := operation{session, string(id)}
	u.mu.Lock()
	defer u.mu.Unlock()
	found := false
	for _, key := range [...]ownerKey{holder(by), {}} {
		o := u.of[key]
		if o == nil {
			continue
		}
		at, known := o.at[op]
		u.n -= o.remove(op)
		if len(o.old) == 0 {
			delete(u.of, key)
		}
		found = found || known && u.now().Sub(at) <= unstartedFor
	}
	u.any.Store(u.n > 0)
	return found
}
