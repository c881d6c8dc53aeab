package sessions

import (
	"context"
	"time"
)

// Store is the registry as the Manager needs it. Every method may also return
// ErrUnavailable. What it returned stays true for nobody: compare and set with
// Transition.
type Store interface {
	// Create records s and returns the record. If this owner already created a
	// session with the same requestID ("" = none), that record is returned as it
	// is now and nothing is written. ErrNameTaken; *LimitError, which no number of
	// creates at once gets past.
	Create(ctx context.Context, s Session, requestID string) (Session, error)

	// Unrequest forgets which request made s, so that the same one makes another.
	Unrequest(ctx context.Context, s Session, requestID string) error

	// Get returns the records of those ids that have one, in the order of ids; with
	// ErrUnavailable those that could be read all the same.
	Get(ctx context.Context, ids ...ID) ([]Session, error)

	// List returns one page of an owner's or an organisation's sessions, the
	// newest first.
	List(ctx context.Context, q Query) (Page, error)

	// Transition does t in one step and returns the new record. ErrNotFound;
	// ErrClosed where t would leave state closed; ErrConflict where state or
	// generation differ or the table forbids t. Closing a closed session does
	// nothing and is no error.
	Transition(ctx context.Context, id ID, t Transition) (Session, error)

	// Bound returns the Spark session ids bound to a session, open or closed.
	Bound(ctx context.Context, id ID) ([]SparkID, error)
}

// Directory is the registry as the Resolver needs it. Every method may also
// return ErrUnavailable.
type Directory interface {
	// Get is Store.Get.
	Get(ctx context.Context, ids ...ID) ([]Session, error)

	// Bound is Store.Bound.
	Bound(ctx context.Context, id ID) ([]SparkID, error)

	// Bind gives spark to the session unless another session has it: first use
	// binds. Repeating it is no error. ErrForeignSpark, ErrNotFound, ErrClosed,
	// ErrTooManyBound.
	Bind(ctx context.Context, id ID, spark SparkID) error

	// Carried is CarriedStore.Carried.
	Carried(ctx context.Context, id ID, generation uint64) (map[SparkID]Carried, error)

	// Watch calls ready once it is sure to hear of every change, then changed for
	// each, until ctx ends or the connection is lost; what happened meanwhile is
	// lost too. It always returns an error.
	Watch(ctx context.Context, ready func(), changed func(Change)) error
}

// Deadlines is the registry as whoever closes old sessions needs it. Every method
// may also return ErrUnavailable.
type Deadlines interface {
	// SetDue has a session looked at, at that time.
	SetDue(ctx context.Context, id ID, at time.Time) error
	// PutOff has one that is to be looked at looked at then; where it is not, as after its
	// close, it stays so.
	PutOff(ctx context.Context, id ID, at time.Time) error
	// TakeDue returns sessions that were to be looked at by now, and puts off each
	// of them until again, so that nobody else is given it before.
	TakeDue(ctx context.Context, now, again time.Time, limit int) ([]ID, error)
	// DropDue forgets the deadline of a session.
	DropDue(ctx context.Context, id ID) error
}

// Turns is the registry's part in preparing Spark sessions: on all replicas one
// request prepares a Spark session, and the others wait until it has. Both
// methods may also return ErrUnavailable.
type Turns interface {
	// TakeTurn claims spark for the session as Bind does, and says whose turn it is
	// to prepare it: the caller's, named by holder, if it gets TurnMine, for as long
	// as lease or until GiveTurn or Bind. ErrForeignSpark, ErrNotFound, ErrClosed,
	// ErrTooManyBound.
	TakeTurn(ctx context.Context, id ID, spark SparkID, holder string, lease time.Duration) (Turn, error)

	// GiveTurn ends holder's turn. Where spark was not bound meanwhile, the claim
	// ends some time later.
	GiveTurn(ctx context.Context, id ID, spark SparkID, holder string) error
}

// Turn is what Turns.TakeTurn answers.
type Turn string

const (
	// TurnMine: the caller is to prepare the Spark session, and then to bind it.
	TurnMine Turn = "mine"
	// TurnTaken: somebody else is at it.
	TurnTaken Turn = "taken"
	// TurnOver: it is prepared and bound.
	TurnOver Turn = "over"
)

// Change is the news that a session's state changed.
type Change struct {
	ID         ID
	State      State
	Generation uint64
	Revision   uint64
}

// Query selects sessions to list.
type Query struct {
	// Org must be set.
	Org string
	// Owner narrows the list to one owner; "" = the whole organisation.
	Owner string
	// Name narrows it to the open session of that name; it needs an Owner.
	Name string
	// Closed: closed sessions too.
	Closed bool
	// Labels: only sessions that have all of these; empty = any.
	Labels map[string]string
	// After continues behind this id, from Page.Next; "" = from the newest.
	After ID
	// Limit is the most sessions a page holds; it must be above 0.
	Limit int
}

// Page is one page of a list. It may hold fewer sessions than the limit, even
// none, with more to come.
type Page struct {
	Sessions []Session
	// Next is the Query.After of the following page; "" = this is the last.
	Next ID
}
