package sessions

import (
	"errors"
	"fmt"
)

// The decisions a caller can take. Each is met with errors.Is.
var (
	// ErrNotFound: the registry has no such session. The outside must not learn
	// it apart from ErrDenied.
	ErrNotFound = errors.New("no such session")
	// ErrClosed: the session is closed, for ever.
	ErrClosed = errors.New("session is closed")
	// ErrFailed: the session's cluster could not be had. See FailedError.
	ErrFailed = errors.New("session has failed")
	// ErrPending: the caller's time was over before the session was active.
	ErrPending = errors.New("session is not active yet")
	// ErrDenied: the session is not the caller's, or there is none.
	ErrDenied = errors.New("not permitted")
	// ErrNameTaken: the owner has a session of that name which is not closed. It
	// may be a failed one: that keeps its name too until it is closed.
	ErrNameTaken = errors.New("session name is taken")
	// ErrNoCluster: no cluster of that name is configured.
	ErrNoCluster = errors.New("no such cluster")
	// ErrClusterNotActive: the cluster did not answer its probe, and the session
	// that was made for it has failed. See ClusterError.
	ErrClusterNotActive = errors.New("cluster is not active")
	// ErrEngineAway: the cluster's engine did not answer.
	ErrEngineAway = errors.New("engine does not answer")
	// ErrForeignSpark: the Spark session id is bound to another session.
	ErrForeignSpark = errors.New("spark session id is bound to another session")
	// ErrTooManyBound: the session has as many Spark session ids as one may have.
	ErrTooManyBound = errors.New("too many spark sessions in one session")
	// ErrUnknownToken: the session has no token of that id, or it is forgotten.
	ErrUnknownToken = errors.New("no such token")
	// ErrTooManyTokens: the session, its owner or the organisation has as many open
	// tokens as one may have. See LimitError.
	ErrTooManyTokens = errors.New("too many tokens")
	// ErrTooManySessions: the owner or the organisation has as many open sessions, or
	// engines that are up, as one may have. See LimitError.
	ErrTooManySessions = errors.New("too many sessions")
	// ErrUnknownKey: there is no such API key, or its secret is another. The
	// outside learns the two apart no more than from ErrDenied.
	ErrUnknownKey = errors.New("no such API key")
	// ErrKeyRevoked and ErrKeyExpired: an API key that was good once.
	ErrKeyRevoked = errors.New("API key is revoked")
	ErrKeyExpired = errors.New("API key has expired")
	// ErrTooManyKeys: the organisation has as many open API keys as one may have.
	ErrTooManyKeys = errors.New("too many API keys in one organisation")
	// ErrConflict: the record is not in the state or generation that a
	// transition named, or the table does not know the transition.
	ErrConflict = errors.New("session has changed meanwhile")
	// ErrUnavailable: the registry did not answer. Nothing is known, nothing is guessed.
	ErrUnavailable = errors.New("session registry is unavailable")
)

// FailedError says which session failed and why. It is an ErrFailed: waiting does
// not help, the session is to be closed and a new one created.
type FailedError struct {
	Session ID
	Reason  string
	// Generation is the one that failed: one that comes after it may be good. 0 = all.
	Generation uint64
}

func (e *FailedError) Error() string        { return ErrFailed.Error() + ": " + e.Reason }
func (e *FailedError) Is(target error) bool { return target == ErrFailed }

// ClusterError says which cluster did not answer and why. It is an ErrClusterNotActive.
type ClusterError struct {
	Cluster string
	// Session is the record that was left in state failed.
	Session ID
	Reason  string
	// Log is the last lines that its engine wrote, for the owner; "" = none.
	Log string
}

func (e *ClusterError) Error() string {
	return fmt.Sprintf("cluster %q is not active: %s", e.Cluster, e.Reason)
}
func (e *ClusterError) Is(target error) bool { return target == ErrClusterNotActive }

// LimitError says which limit was reached. It is an ErrTooManyTokens where the limit
// is one of tokens, else an ErrTooManySessions.
type LimitError struct {
	// Limit is its name in the configuration, such as "sessions_per_owner".
	Limit string
	Max   int
}

func (e *LimitError) Error() string { return fmt.Sprintf("limit %s is reached: %d", e.Limit, e.Max) }

// Is implements the interface of errors.Is.
func (e *LimitError) Is(target error) bool {
	switch e.Limit {
	case LimitTokensPerSession, LimitTokensPerOwner, LimitTokensPerOrg:
		return target == ErrTooManyTokens
	}
	return target == ErrTooManySessions
}

// The limits of sessions, of engines that are up for one session, and of open tokens,
// as the configuration names them.
const (
	LimitPerOwner        = "sessions_per_owner"
	LimitPerOrg          = "sessions_per_org"
	LimitEnginesPerOwner = "engines_per_owner"
	LimitEnginesPerOrg   = "engines_per_org"

	LimitTokensPerSession = "tokens_per_session"
	LimitTokensPerOwner   = "tokens_per_owner"
	LimitTokensPerOrg     = "tokens_per_org"
)

// SetupError says what of a session's choice its engine does not take.
type SetupError struct {
	// Session is "" where it was to be made, and was not.
	Session ID
	Cluster string
	// What is a catalog, a database or a key of the configuration, with its name.
	What string
	// Problem is what the engine says to it.
	Problem string
}

func (e *SetupError) Error() string {
	return fmt.Sprintf("cluster %s does not take %s: %s", e.Cluster, e.What, e.Problem)
}

// InvalidError says which field of a request is wrong and what is wrong with it.
type InvalidError struct{ Field, Problem string }

func (e *InvalidError) Error() string { return e.Field + " " + e.Problem }
