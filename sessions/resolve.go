package sessions

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// ResolverConfig is what a Resolver is made of.
type ResolverConfig struct {
	// Directory is the registry. Required.
	Directory Directory
	// Clusters are the configured clusters.
	Clusters Clusters
	// Engine prepares the Spark sessions of sessions that chose something, and
	// Turns sees to it that each is prepared once; nil = none is prepared.
	Engine Preparer
	Turns  Turns
	// OnEnd is called when a session that was open is found closed or failed,
	// whoever ended it on whichever replica; why is an ErrClosed or ErrFailed. It
	// may be called for sessions this replica never saw, must not block, and may
	// come from any goroutine. nil = nobody wants to know.
	OnEnd func(id ID, why error)
	// OnLate is called after OnEnd for a session that is found closed, where its record
	// was not read for longer than Trust: this process was paused, or cut off from the
	// registry, or nobody used the session here. What it let through meanwhile may have come
	// to the engine after that was told of the close, and lives on there; telling it again
	// changes nothing else. It must not block, and may come from any goroutine. nil = nobody
	// wants to know.
	OnLate func(s Session)
	// OnRevoke is called when an open session is found to have revoked tokens,
	// with all of them as in Session.Revoked; it may be called again with the same.
	// It must not block, and may come from any goroutine. nil = nobody wants to know.
	OnRevoke func(id ID, revoked string)

	// Waker wakes sessions that are not active; nil = somebody else does.
	Waker *Waker
	// Uses hears, every TouchEvery, which sessions were used; nil = nobody does.
	Uses UseStore
	// TouchEvery; 0 = 5 s. A session's idle timeout must be longer.
	TouchEvery time.Duration

	// Trust is how long a record counts as true after it was read. 0 = 2 s.
	Trust time.Duration
	// Recheck is how often the sessions in use are read again; it should be at
	// most half of Trust. 0 = 1 s.
	Recheck time.Duration
	// Grace is how long a known session goes on while the registry is away,
	// counted from the last time its record was read; and how long a session
	// stays in the cache after its last use. 0 = 30 s.
	Grace time.Duration
	// ReadTimeout bounds one question to the registry; a lookup asks up to three, one
	// after the other. 0 = 500 ms.
	ReadTimeout time.Duration
	// MaxKnown bounds the sessions in the cache. 0 = 100,000 (some 1 KiB each).
	MaxKnown int
	// MaxRecheck bounds how many sessions one re-check reads. Sessions beyond it
	// are read when they are next used. 0 = 8,192.
	MaxRecheck int

	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Logger; nil = none.
	Logger *zap.Logger
}

// Preparer is the part of an Engine that a Resolver needs.
type Preparer interface {
	Prepare(ctx context.Context, c *Cluster, s Session, spark SparkID) error
}

func (c *ResolverConfig) defaults() {
	setDefault(&c.Trust, 2*time.Second)
	setDefault(&c.Recheck, time.Second)
	setDefault(&c.TouchEvery, 5*time.Second)
	setDefault(&c.Grace, 30*time.Second)
	setDefault(&c.ReadTimeout, 500*time.Millisecond)
	setDefault(&c.MaxKnown, 100_000)
	setDefault(&c.MaxRecheck, 8192)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.OnEnd == nil {
		c.OnEnd = func(ID, error) {}
	}
	if c.OnLate == nil {
		c.OnLate = func(Session) {}
	}
	if c.OnRevoke == nil {
		c.OnRevoke = func(ID, string) {}
	}
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Resolver finds the route of a session: a cache of the sessions in use in front
// of the registry. What it costs a request does not depend on how many sessions
// there are.
//
//	in use (a stream open, or used within Grace): in the cache, read again every
//	    Recheck, and at once when a push says that it changed
//	not read again within Trust (push and re-check both failed): asked for anew
//	registry away: known sessions go on for Grace; all others get ErrUnavailable
//	a part of it away: so it is for the sessions there
//
// So a close bites at once where the push arrives and within Trust where it is
// lost, as long as the registry answers; else within Grace. A session is never
// guessed. Methods are safe for any goroutine.
type Resolver struct {
	ResolverConfig
	start   time.Time
	replica string // who tells of uses
	table   *table

	// failures counts reads of the registry that failed in a row.
	failures atomic.Int32
	// nextTry is when the registry, being away, may be asked again for a session
	// that is not known, in nanoseconds since start.
	nextTry atomic.Int64

	mu      sync.Mutex // guards what follows and every change of table
	known   map[ID]*entry
	reads   map[ID]*read
	missing map[ID]time.Duration // not found, until then since start
	due     map[ID]struct{}      // to be read again at once
	dueNow  chan struct{}        // holds a token if due is not empty, or all are due

	partly bool // some of the last re-check could not be read; of Run's alone
}

// entry is one session in the cache. While it is there it is read again and again.
type entry struct {
	id        ID
	snapshot  atomic.Pointer[snapshot]
	confirmed atomic.Int64 // when it was last read, nanoseconds since start
	missed    atomic.Int32 // reads since then that got others' records and not this one
	used      atomic.Bool  // since the last re-check
	lastUsed  time.Duration
	live      *live
}

// snapshot is what one state of a record means to a caller: a route or an error.
type snapshot struct {
	session  Session
	route    *Route
	err      error
	applied  time.Duration // since start; a read that began later knows better
	replaced chan struct{} // closed when there is another snapshot
}

// read is one read of a record that any number of callers wait for.
type read struct {
	done chan struct{}
	snap *snapshot
	err  error
}

// NewResolver checks c and starts nothing. Call Run.
func NewResolver(c ResolverConfig) (*Resolver, error) {
	if c.Directory == nil {
		return nil, errors.New("resolver: no directory")
	}
	if (c.Engine == nil) != (c.Turns == nil) {
		return nil, errors.New("resolver: an engine and turns go together")
	}
	c.defaults()
	if c.Recheck >= c.Trust {
		return nil, fmt.Errorf("resolver: re-check interval %s must be below trust %s", c.Recheck, c.Trust)
	}
	return &Resolver{
		ResolverConfig: c,
		start:          c.Now(),
		replica:        uuid.NewString(),
		table:          newTable(),
		known:          map[ID]*entry{},
		reads:          map[ID]*read{},
		missing:        map[ID]time.Duration{},
		due:            map[ID]struct{}{},
		dueNow:         make(chan struct{}, 1),
	}, nil
}

// TryLookup returns the route of an active session that the cache knows and
// trusts. It never blocks, takes no lock and allocates nothing.
func (r *Resolver) TryLookup(id ID) (*Route, bool) {
	e := r.table.get(id)
	if e == nil {
		return nil, false
	}
	s := e.snapshot.Load()
	if s.route == nil || !r.trusted(e) {
		return nil, false
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return s.route, true
}

// Lookup returns the route of a session, from the registry where the cache does
// not know it. A session that is not active is woken; that goes on when ctx ends.
// ErrNotFound, ErrClosed, ErrFailed, ErrNoCluster, ErrPending, ErrUnavailable,
// a *LaunchError or *ClusterError, or the error of ctx.
func (r *Resolver) Lookup(ctx context.Context, id ID) (*Route, error) {
	var woken *snapshot
	for {
		if route, ok := r.TryLookup(id); ok {
			return route, nil
		}
		s, err := r.readShared(ctx, id)
		if err != nil {
			return r.fallBack(id, err)
		}
		if !errors.Is(s.err, ErrPending) {
			return s.route, s.err
		}
		if s == woken { // it was not to be woken, and the cache does not know why
			woken, err = nil, r.awaitChange(ctx, s)
		} else {
			woken, err = s, r.awaken(ctx, s)
		}
		if err != nil {
			return nil, err
		}
	}
}

// Record returns the record of a session, from the registry where the cache has no
// route of it. It wakes nothing and waits for nothing else. ErrNotFound,
// ErrUnavailable; and beside the record, so that one can see whose it is, ErrClosed,
// ErrFailed, ErrNoCluster.
func (r *Resolver) Record(ctx context.Context, id ID) (Session, error) {
	if route, ok := r.TryLookup(id); ok {
		return route.Session, nil
	}
	s, err := r.readShared(ctx, id)
	if err != nil {
		route, err := r.fallBack(id, err)
		if err != nil {
			return Session{}, err
		}
		return route.Session, nil
	}
	if s.err != nil && !errors.Is(s.err, ErrPending) {
		return s.session, s.err
	}
	return s.session, nil
}

// Asleep says that a session is idle, or failed and can be woken, and that nothing of it
// runs anywhere. s must have been read just now. One that became idle while a request was
// on its way here is about to be woken: see protest.
func (r *Resolver) Asleep(s Session) bool {
	c, err := r.Clusters.Get(s.Cluster)
	if err != nil || c.Launcher == nil {
		return false
	}
	e := r.table.get(s.ID)
	switch s.State {
	case Idle:
		return e == nil || !e.live.busy()
	case Failed:
		// Operations that clients might have come back for ended with its engine. While it is
		// being woken, a query waits for that: who ends something ends it on the new engine.
		return r.Clusters.Wakeable(s) && s.Stage == "" && !r.waking(s.ID) && (e == nil || !e.live.used())
	}
	return false
}

// waking says that a session is being woken here.
func (r *Resolver) waking(id ID) bool { return r.Waker != nil && r.Waker.waking(id) }

// awaken has a session woken and waits for it.
func (r *Resolver) awaken(ctx context.Context, s *snapshot) error {
	if r.Waker == nil {
		return r.awaitChange(ctx, s)
	}
	err := r.Waker.Wake(ctx, s.session)
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrLeaseLost) {
		return r.awaitChange(ctx, s) // somebody else was faster
	}
	if err == nil {
		r.ask(s.session.ID)
	}
	return err
}

// awaitChange waits until a snapshot is replaced, or for one Recheck.
func (r *Resolver) awaitChange(ctx context.Context, s *snapshot) error {
	again := time.NewTimer(r.Recheck)
	defer again.Stop()
	select {
	case <-s.replaced:
	case <-again.C:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", ErrPending, ctx.Err())
		}
		return ctx.Err()
	}
	return nil
}

// fallBack lets a session go on that was known within Grace, where the registry
// cannot be read or has lost the record: a close leaves its record behind, so a
// record that is gone is lost, not closed.
func (r *Resolver) fallBack(id ID, err error) (*Route, error) {
	if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	e := r.table.get(id)
	if e == nil || r.age(e) > r.Grace {
		return nil, err
	}
	s := e.snapshot.Load()
	if s.route == nil {
		return nil, err
	}
	e.used.Store(true)
	return s.route, nil
}

// ReportFailure says that the route of that generation did not work: the session
// is read again at once. An older generation than the known one is ignored.
func (r *Resolver) ReportFailure(id ID, generation uint64) {
	if e := r.table.get(id); e != nil && e.snapshot.Load().session.Generation <= generation {
		r.ask(id)
	}
}

// Bind gives spark to the session of route unless another session has it; the
// first use of an id binds it, on every replica and for ever. ErrForeignSpark,
// ErrTooManyBound, ErrClosed, ErrNotFound, ErrUnavailable.
func (r *Resolver) Bind(ctx context.Context, route *Route, spark SparkID) error {
	if route.Bound(spark) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.ReadTimeout)
	defer cancel()
	err := r.Directory.Bind(ctx, route.Session.ID, spark)
	if err != nil {
		if errors.Is(err, ErrClosed) {
			r.ask(route.Session.ID)
		}
		return fmt.Errorf("bind spark session: %w", err)
	}
	route.live.add(spark)
	return nil
}

// Streams returns how many streams of a session are open: on this replica now, and on
// the others when they last told.
func (r *Resolver) Streams(ctx context.Context, id ID) (n int64, err error) {
	if r.Uses != nil {
		if n, err = r.Uses.Streams(ctx, id, r.replica); err != nil {
			return 0, fmt.Errorf("streams of session %s: %w", id, err)
		}
	}
	if e := r.table.get(id); e != nil {
		n += e.live.streams.Load()
	}
	return n, nil
}

// Known returns how many sessions the cache holds.
func (r *Resolver) Known() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.known)
}

func (r *Resolver) elapsed() time.Duration { return r.Now().Sub(r.start) }

func (r *Resolver) age(e *entry) time.Duration {
	return r.elapsed() - time.Duration(e.confirmed.Load())
}

func (r *Resolver) trusted(e *entry) bool {
	age := r.age(e)
	return age <= r.Trust || (age <= r.Grace && (r.away() || e.missed.Load() >= 2))
}

// away says that the registry did not answer twice in a row.
func (r *Resolver) away() bool { return r.failures.Load() >= 2 }
