package sessions

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Route is what the data path needs of a session: the record, its cluster and
// the Spark session ids bound to it. A Route is not changed; when the session
// changes there is a new one. What is bound and how many streams are open is
// shared by all routes of a session. Safe for any goroutine.
type Route struct {
	Session Session
	Cluster *Cluster

	live *live
}

// live is what all routes of one session on this replica share.
type live struct {
	streams    atomic.Int64
	touched    atomic.Bool // used since the registry was last told
	operations operations

	mu    sync.Mutex // held by add
	bound atomic.Pointer[map[SparkID]struct{}]
}

// NewRoute makes a route that no Resolver keeps, for tests and fakes.
func NewRoute(s Session, c *Cluster, bound ...SparkID) *Route {
	return &Route{Session: s, Cluster: c, live: newLive(bound)}
}

func newLive(bound []SparkID) *live {
	l := &live{}
	set := make(map[SparkID]struct{}, len(bound))
	for _, id := range bound {
		set[id] = struct{}{}
	}
	l.bound.Store(&set)
	return l
}

// Bound says whether id is already known to be bound to this session. It takes
// no lock and allocates nothing. If it says no, Resolver.Bind decides.
func (r *Route) Bound(id SparkID) bool {
	_, ok := (*r.live.bound.Load())[id]
	return ok
}

// StreamOpened counts one more open stream of the session on this replica; each
// call is followed by one StreamEnded. A session with open streams is
// re-checked until they ended, so that they hear of its close even if the push
// message was lost.
func (r *Route) StreamOpened() { r.live.streams.Add(1) }

// Use notes that the session is in use: by a stream that is more than a look at
// what was before. The registry hears of it within some seconds.
func (r *Route) Use() {
	if !r.live.touched.Load() {
		r.live.touched.Store(true)
	}
}

// OperationDetached notes that a stream of an operation ended which its client may
// come back for.
func (r *Route) OperationDetached(op string, now time.Time) { r.live.operations.detach(op, now) }

// OperationOver notes that an operation was released, or failed.
func (r *Route) OperationOver(op string) { r.live.operations.end(op) }

// StreamEnded takes back one StreamOpened.
func (r *Route) StreamEnded() { r.live.streams.Add(-1) }

// Streams returns how many streams are open on this replica.
func (r *Route) Streams() int64 { return r.live.streams.Load() }

// add copies the set: it is read on each request and grows a few times in a
// session's life.
func (l *live) add(id SparkID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := maps.Clone(*l.bound.Load())
	set[id] = struct{}{}
	l.bound.Store(&set)
}
