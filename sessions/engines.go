package sessions

import (
	"context"
	"errors"
	"time"
)

// EngineKey names the engine of a session or of a shared cluster, whatever
// process plays it at the time.
type EngineKey string

// keyOf is the engine that a session runs on.
func keyOf(s Session, c *Cluster) EngineKey {
	if c.Isolation == IsolateNone {
		return EngineKey("cluster:" + c.Name)
	}
	return EngineKey("session:" + string(s.ID))
}

// EngineRecord is what the registry knows of an engine that is up.
type EngineRecord struct {
	Key     EngineKey
	Cluster string
	Instance
	// Place is whose limits it counts in; the zero value is nobody's.
	Place Place
	// Members are the sessions that run on it, and the generation each had, or was
	// about to have, when it joined. An engine without members is to be stopped.
	Members map[ID]uint64
}

// Place is an engine's share of what its owner and its organisation may have up. It
// was taken by who launched the engine, under the engine's lease.
type Place struct {
	Org, Owner string
	// Lease is the token of that lease: an engine of the same key that comes later
	// has a place of its own.
	Lease string
}

// EngineStore is the part of the registry that knows engines. Every method may also
// return ErrUnavailable.
//
// An engine is up from PutEngine until its last member left or DropEngine. To put
// one takes the engine's lease: whoever lost it meanwhile must stop what it launched.
type EngineStore interface {
	// JoinEngine makes a session a member of the engine that is up. One that is a
	// member with a higher generation stays so. ErrEngineDown.
	JoinEngine(ctx context.Context, key EngineKey, id ID, generation uint64) (Instance, error)
	// TakePlace takes a place for an engine that is about to be launched by who holds
	// its lease. *LimitError, which no number of launches at once gets past. The place
	// ends with FreePlace, with the engine that PutEngine records with it, or else
	// with the lease.
	TakePlace(ctx context.Context, key EngineKey, p Place) error
	// FreePlace ends a place of which no engine came.
	FreePlace(ctx context.Context, key EngineKey, p Place) error
	// PutEngine records an engine as up, with one member. ErrLeaseLost where the
	// lease is not held by that token, ErrConflict where another is up already.
	PutEngine(ctx context.Context, e EngineRecord, lease string) error
	// LeaveEngine takes a member out, unless it joined again with a higher
	// generation. If it was the last one, the engine is down and returned: the
	// caller stops it. Nobody else will be told to.
	LeaveEngine(ctx context.Context, key EngineKey, id ID, generation uint64) (*Instance, error)
	// DropEngine takes an engine down that has ended, if it is still that one, and
	// returns its members.
	DropEngine(ctx context.Context, key EngineKey, instance string) (map[ID]uint64, error)
	// Engines returns all that are up.
	Engines(ctx context.Context) ([]EngineRecord, error)

	// LeaseEngine takes the lease of an engine, or takes it for longer. It says no
	// where somebody else holds it. UnleaseEngine gives it back.
	LeaseEngine(ctx context.Context, key EngineKey, token string, ttl time.Duration) (bool, error)
	UnleaseEngine(ctx context.Context, key EngineKey, token string) error
	// EngineLeased says whether anybody holds the lease.
	EngineLeased(ctx context.Context, key EngineKey) (bool, error)
	// LeaseSession is the same for the right to wake a session.
	LeaseSession(ctx context.Context, id ID, token string, ttl time.Duration) (bool, error)
	UnleaseSession(ctx context.Context, id ID, token string) error
}

var (
	// ErrEngineDown: no engine is up by that key.
	ErrEngineDown = errors.New("the engine is down")
	// ErrLeaseLost: the caller no longer holds the lease it acts by.
	ErrLeaseLost = errors.New("the lease was lost")
)

// Use is the news of one session's use.
type Use struct {
	ID ID
	// Running are operations of it that are not over: a client may come back for
	// them although no stream is open.
	Running []string
	// Over are operations that are over.
	Over []string
	// Released are operations that are over because their client released them: it
	// comes back for them nowhere, whatever other replicas take them for.
	Released []string
	// Replica is who tells, and Streams how many streams of it are open there.
	Replica string
	Streams int64
}

// UseStore is the part of the registry that knows when sessions were used. Every
// method may also return ErrUnavailable. All times are of the registry's own
// clock, so that the replicas' clocks need not agree.
type UseStore interface {
	// Touch notes that sessions are in use now. Those that are gone or closed are
	// left out. It returns the Running that another replica told in the last half
	// minute to have been released; they do not run.
	Touch(ctx context.Context, uses []Use) (released map[ID][]string, err error)
	// Running is how many operations of a session are not over, of those that Touch
	// told of.
	Running(ctx context.Context, id ID) (int, error)
	// Streams is how many streams of a session are open on other replicas than this
	// one, as far as they told in the last quarter of a minute.
	Streams(ctx context.Context, id ID, replica string) (int64, error)
	// Clock is what time it is for the registry.
	Clock(ctx context.Context) (time.Time, error)
	// Schedule has a session looked at, at that time; a later call replaces the
	// earlier. The zero time: no more, unless it is to be looked at in the future,
	// for which somebody else has a reason.
	Schedule(ctx context.Context, id ID, at time.Time) error
	// Scheduled returns sessions whose time has come, at most limit, the longest due
	// first.
	Scheduled(ctx context.Context, at time.Time, limit int) ([]ID, error)
	// SetStage notes what is being done for a session that is being woken, "" =
	// nothing; failure is why the last try came to nothing, "" = it did not.
	SetStage(ctx context.Context, id ID, stage, failure string) error
}
