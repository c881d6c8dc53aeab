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
	// sparks are those that an earlier engine had; nil in the first generation.
	sparks map[SparkID]*SparkRoute
}

// SparkRoute is what the data path needs of a Spark session whose engine was
// replaced. Its nil value is one whose engine is its first.
type SparkRoute struct {
	Carried Carried

	told     atomic.Bool
	observed atomic.Pointer[string]
}

// Untold says that the client must be told of what was lost, as far as is known here.
func (s *SparkRoute) Untold() bool { return s != nil && s.Carried.Notable && !s.told.Load() }

// Told says that the client was told, here or elsewhere.
func (s *SparkRoute) Told() { s.told.Store(true) }

// Observed notes what the client says that the engine calls its session, "" = it says
// nothing, and returns what it said last.
func (s *SparkRoute) Observed(id string) string {
	if s == nil {
		return ""
	}
	last := s.observed.Load()
	switch {
	case id == "" && last == nil:
		return ""
	case id == "":
		return *last
	case last == nil || *last != id:
		s.observed.Store(&id)
	}
	return id
}

// ServerID is what the current engine calls the Spark session; "" = what it always
// was called, or not known.
func (s *SparkRoute) ServerID() string {
	if s == nil {
		return ""
	}
	return s.Carried.ServerID
}

// Carries says that the session's engine is not its first.
func (r *Route) Carries() bool { return r.sparks != nil }

// Spark returns what became of a Spark session when its engine was replaced; nil =
// nothing, its engine is its first. It takes no lock and allocates nothing.
func (r *Route) Spark(id SparkID) *SparkRoute {
	if r.sparks == nil {
		return nil
	}
	return r.sparks[id]
}

// Carry makes a route whose engine is not the first, for tests and fakes.
func (r *Route) Carry(carried map[SparkID]Carried) *Route {
	own := *r
	own.sparks = sparkRoutes(carried)
	return &own
}

func sparkRoutes(carried map[SparkID]Carried) map[SparkID]*SparkRoute {
	if len(carried) == 0 {
		return nil
	}
	routes := make(map[SparkID]*SparkRoute, len(carried))
	for id, c := range carried {
		routes[id] = &SparkRoute{Carried: c}
	}
	return routes
}

// live is what all routes of one session on this replica share.
type live struct {
	streams    atomic.Int64
	looks      atomic.Int64 // of streams, those that are no use of the session
	touched    atomic.Bool  // used since the registry was last told
	operations operations

	mu    sync.Mutex // held by add
	bound atomic.Pointer[map[SparkID]struct{}]

	carried atomic.Pointer[generationSparks] // of the newest generation that was read
}

// generationSparks is what a generation that is not the first began with, on its
// engine: where the registry lost a wake, another one has its generation.
type generationSparks struct {
	generation uint64
	engine     string
	sparks     map[SparkID]*SparkRoute
}

// sparksOf returns what the session's engine began with; ok is false where that has
// not been read.
func (l *live) sparksOf(s Session) (sparks map[SparkID]*SparkRoute, ok bool) {
	if s.EngineGeneration <= 1 {
		return nil, true
	}
	c := l.carried.Load()
	if c == nil || c.generation != s.EngineGeneration || c.engine != s.engineID() {
		return nil, false
	}
	return c.sparks, true
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

// LookOpened and LookEnded are StreamOpened and StreamEnded for a stream that is no use
// of the session: one that only asks of what was before, or ends it.
func (r *Route) LookOpened() {
	r.live.streams.Add(1)
	r.live.looks.Add(1)
}

func (r *Route) LookEnded() {
	r.live.looks.Add(-1)
	r.live.streams.Add(-1)
}

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

// OperationOver notes that an operation failed.
func (r *Route) OperationOver(op string) { r.live.operations.end(op) }

// OperationReleased notes that an operation was released: it is over on all replicas.
func (r *Route) OperationReleased(op string) { r.live.operations.release(op) }

// OperationDone notes that an operation's result was read to its end. A replica through
// which it was not read may still take it for running, until it is released.
func (r *Route) OperationDone(op string) { r.live.operations.done(op) }

// Detached returns how many operations clients may come back for, as far as this
// replica saw them.
func (r *Route) Detached() int { return r.live.operations.count() }

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
