package proxy

import (
	"sync"
	"sync/atomic"
	"time"

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
	// Remember: this operation of the session did not start.
	Remember(session sessions.ID, operation []byte)
	// Take says whether the operation is remembered, and forgets it: the plan
	// that the client sends next may start, and must not be denied then.
	Take(session sessions.ID, operation []byte) bool
}

const (
	// unstartedFor is how long Spark's clients keep trying.
	unstartedFor = 10 * time.Minute
	// unstartedMax bounds the memory: about 200 bytes each.
	unstartedMax = 10_000
)

// unstarted is Unstarted for one process.
type unstarted struct {
	now func() time.Time
	any atomic.Bool // at may hold something: spares all others the lock

	mu  sync.Mutex
	at  map[operation]time.Time
	old []operation // in the order of Remember; may name what was taken meanwhile
}

type operation struct {
	session sessions.ID
	id      string
}

func newUnstarted(now func() time.Time) *unstarted {
	return &unstarted{now: now, at: make(map[operation]time.Time)}
}

func (u *unstarted) Remember(session sessions.ID, id []byte) {
	if len(id) == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	op, now := operation{session, string(id)}, u.now()
	u.at[op] = now
	u.any.Store(true)
	u.old = append(u.old, op)
	for len(u.old) > 0 && (len(u.old) > unstartedMax || now.Sub(u.at[u.old[0]]) > unstartedFor) {
		delete(u.at, u.old[0])
		u.old = u.old[1:]
	}
}

func (u *unstarted) Take(session sessions.ID, id []byte) bool {
	if !u.any.Load() {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	op := operation{session, string(id)}
	at, ok := u.at[op]
	delete(u.at, op)
	u.any.Store(len(u.at) > 0)
	return ok && u.now().Sub(at) <= unstartedFor
}
