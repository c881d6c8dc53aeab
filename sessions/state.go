package sessions

import (
	"slices"
	"time"
)

// State is where a session is in its life.
type State string

const (
	// Pending: recorded; its cluster has not answered yet.
	Pending State = "pending"
	// Active: its cluster answered; requests go through.
	Active State = "active"
	// Idle: unused for so long that its engine was stopped; the next request wakes it.
	Idle State = "idle"
	// Closed: ended by its owner, an admin or a limit. Final.
	Closed State = "closed"
	// Failed: its cluster could not be had, or its engine has ended; Session.Reason
	// says why. It may be woken where its cluster says so.
	Failed State = "failed"
)

// transitions is the one table of what may become what. Nothing else in the
// project decides it, and no state changes but by Store.Transition.
var transitions = map[State][]State{
	Pending: {Active, Failed, Closed},
	Active:  {Idle, Failed, Closed},
	Idle:    {Active, Failed, Closed},
	Failed:  {Active, Closed},
	Closed:  {},
}

// Valid says whether s is a state of the table.
func (s State) Valid() bool {
	_, ok := transitions[s]
	return ok
}

// May says whether a session in state s may become to.
func (s State) May(to State) bool { return slices.Contains(transitions[s], to) }

// Transition is one step of a session from state to state. It is compared with
// the record and done at once: where From or Generation is not what the record
// holds, nothing changes.
type Transition struct {
	// From is the state the caller believes in. Close leaves it empty: a
	// session may be closed from every state.
	From State
	// Generation is the one the caller believes in; not compared on a close.
	Generation uint64
	To         State
	// Reason goes into Session.Reason.
	Reason string
	// At is the time of the change.
	At time.Time
	// Engine is what the session runs on from now on; nil = as before.
	Engine *Instance
	// Unused is how long the session must have been unused, and no operation of it
	// running, by the registry's clock less Skew; 0 = that does not matter. Where it
	// was used: ErrConflict.
	Unused, Skew time.Duration
	// Keep is how long the record stays after a close where that is shorter than the
	// registry keeps others; 0 = as long as others.
	Keep time.Duration
}

// CloseAt is the transition that closes a session, whatever its state.
func CloseAt(at time.Time, reason string) Transition {
	return Transition{To: Closed, Reason: reason, At: at}
}

// Allowed says whether the table knows this transition.
func (t Transition) Allowed() bool {
	if t.To == Closed && t.From == "" {
		return true
	}
	return t.From.May(t.To)
}
