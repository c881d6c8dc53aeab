package sessions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions/failpoint"
)

// CreateRequest says what session to make.
type CreateRequest struct {
	// Name is 1 to 64 letters, digits, "-", "_" and spaces, no space at either
	// end; "" = the session's id.
	Name string
	// Cluster; "" = the only one, where just one is configured.
	Cluster string
	// RequestID is 1 to 64 letters, digits, "-", "_" and "."; a request repeated
	// with it within 24 h returns the session that the first one made. "" =
	// every request makes one.
	RequestID string
	// Options are its own wishes.
	Options
}

const (
	maxName  = 64
	nameRule = "must be 1 to 64 letters, digits, '-', '_' and spaces, with no space at either end"
)

// validName says whether s may be the name of a session or a token; "" may.
func validName(s string) bool {
	return len(s) <= maxName && madeOf(s, "-_ ") && strings.TrimSpace(s) == s
}

func (r CreateRequest) validate() error {
	switch {
	case !validName(r.Name):
		return &InvalidError{"name", nameRule}
	case len(r.RequestID) > maxName || !madeOf(r.RequestID, "-_."):
		return &InvalidError{"request_id", "must be 1 to 64 letters, digits, '-', '_' and '.'"}
	}
	return nil
}

// madeOf says whether s is made of ASCII letters, digits and the others.
func madeOf(s, others string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}

// Create records a session, waits until its cluster answers and returns it
// active. Where the cluster does not answer within ProbeTimeout, the session is left
// failed, with the reason, and the error is a *ClusterError. ErrNameTaken, ErrNoCluster,
// *LimitError, *DrainError, *SetupError, *InvalidError; ErrClosed if it was closed
// meanwhile. Where its engine may not be launched, or does not take what the session
// chose, the session is left closed, for an hour.
func (m *Manager) Create(ctx context.Context, a Actor, r CreateRequest) (s Session, err error) {
	_, entry, err := m.checkAndAudit(ctx, a, ActionCreate, "")
	if err != nil {
		return Session{}, err
	}
	defer func() { entry.session = s.ID; entry.end(err) }()
	if err := r.validate(); err != nil {
		return Session{}, err
	}
	cluster, err := m.Clusters.Get(r.Cluster)
	if err != nil {
		return Session{}, err
	}
	if err := r.Options.validate(cluster); err != nil {
		return Session{}, err
	}
	if err := m.Waker.takes(ctx, cluster); err != nil {
		return Session{}, err
	}
	s, err = m.record(ctx, a, r, cluster)
	if err != nil {
		return s, err
	}
	failpoint.Hit("create.recorded")
	made, err := m.activate(ctx, s)
	if r.RequestID != "" && isRefusal(err) {
		// The refusal is over some day, and then the request is to be good for it.
		if err := m.Store.Unrequest(context.WithoutCancel(ctx), s, r.RequestID); err != nil {
			m.Logger.Warn("a refused request to create is not forgotten: repeated, it is told of a closed session", zap.String("session", string(s.ID)), zap.Error(err))
		}
	}
	return made, err
}

// record writes the new session as pending, or finds the one that the same
// request made before.
func (m *Manager) record(ctx context.Context, a Actor, r CreateRequest, c *Cluster) (Session, error) {
	id, err := NewID(m.Now(), m.Random)
	if err != nil {
		return Session{}, err
	}
	n := Session{ID: id, Name: r.Name, Owner: a.Subject, Org: a.Org, Cluster: c.Name, State: Pending, CreatedAt: m.Now()}
	r.Options.into(&n, &c.Policy)
	if err := m.schedule(ctx, n); err != nil { // before its record is there: a crash between leaves none that is never closed
		return Session{}, err
	}
	s, err := m.Store.Create(ctx, n, r.RequestID)
	if err != nil {
		return Session{}, err
	}
	if s.Cluster != c.Name || r.Name != "" && s.Name != r.Name || !r.Options.made(s) {
		return Session{}, &InvalidError{"request_id", "was used for another session: choose a new one"}
	}
	return s, nil
}

// activate brings a pending session to active or failed. It goes on when the
// caller leaves, since the record should not stay pending; a crash does leave it
// so, and the same request, or the session's first query, finishes it.
func (m *Manager) activate(ctx context.Context, s Session) (Session, error) {
	ctx = context.WithoutCancel(ctx)
	if s.State != Pending {
		return s, standing(s)
	}
	err := m.Waker.Wake(ctx, s)
	if errors.Is(err, ErrLeaseLost) {
		err = m.Waker.Wake(ctx, s) // somebody overtook us: what comes of theirs is ours
	}
	if err == nil || errors.Is(err, ErrConflict) {
		return m.reread(ctx, s)
	}
	var setup *SetupError
	if errors.As(err, &setup) { // of no session: none is left
		err = &SetupError{Cluster: setup.Cluster, What: setup.What, Problem: setup.Problem}
	}
	if isRefusal(err) {
		return m.withdraw(ctx, s, err)
	}
	if !isFailure(err) {
		return s, err
	}
	m.Logger.Warn("cluster cannot be had", zap.String("cluster", s.Cluster), zap.String("session", string(s.ID)), zap.Error(err))
	failed := clusterError(s, err)
	now, terr := m.Store.Transition(ctx, s.ID, Transition{From: Pending, Generation: s.Generation, To: Failed, Reason: failed.Reason, At: m.Now()})
	if errors.Is(terr, ErrConflict) { // the same request, sent twice at once
		return m.reread(ctx, s)
	}
	if terr != nil {
		return s, terr
	}
	return now, failed
}

// isRefusal says that a new session may not have an engine now, or that its engine
// does not take what it chose: another time it may be otherwise.
func isRefusal(err error) bool {
	var limit *LimitError
	var setup *SetupError
	return errors.As(err, &limit) || errors.As(err, &setup) || errors.Is(err, ErrDraining)
}

// withdrawnKept is how long a session can be seen that was refused when it was made.
// Whoever tries again and again would fill the lists with them.
const withdrawnKept = time.Hour

// withdraw closes a new session that nobody could use, so that its name is free
// for another try.
func (m *Manager) withdraw(ctx context.Context, s Session, why error) (Session, error) {
	closed, err := m.Store.Transition(ctx, s.ID, Transition{
		From: Pending, Generation: s.Generation, To: Closed, Reason: wakeReason(why), At: m.Now(), Keep: withdrawnKept,
	})
	if errors.Is(err, ErrConflict) { // the same request, sent twice at once
		return m.reread(ctx, s)
	}
	if err != nil && !errors.Is(err, ErrClosed) {
		return s, errors.Join(why, err)
	}
	return closed, why
}

// clusterError says to the owner why an engine or a cluster could not be had.
func clusterError(s Session, err error) *ClusterError {
	e := &ClusterError{Cluster: s.Cluster, Session: s.ID, Reason: wakeReason(err)}
	var launch *LaunchError
	if errors.As(err, &launch) {
		e.Log = launch.Log
	}
	return e
}

// reread returns what became of a session. The registry is asked more than once: whoever
// sends the request again without an id for it makes another session.
func (m *Manager) reread(ctx context.Context, s Session) (Session, error) {
	found, err := m.Store.Get(ctx, s.ID)
	for tries := 1; tries < rereadTries && errors.Is(err, ErrUnavailable) && pause(ctx, rereadAfter) == nil; tries++ {
		found, err = m.Store.Get(ctx, s.ID)
	}
	if err != nil {
		return s, err
	}
	if len(found) == 0 {
		return s, ErrConflict
	}
	return found[0], standing(found[0])
}

const (
	rereadTries = 10
	rereadAfter = 500 * time.Millisecond
)

// standing is what a session's state means to whoever wants it active.
func standing(s Session) error {
	switch s.State {
	case Failed:
		return &ClusterError{Cluster: s.Cluster, Session: s.ID, Reason: s.Reason}
	case Closed:
		return ErrClosed
	}
	return nil
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// probeUntil probes until the cluster answers, refuses for good, or limit is
// over; then it returns the last answer.
func probeUntil(ctx context.Context, e Engine, c *Cluster, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := e.Probe(ctx, c)
		if err == nil || errors.Is(err, ErrRefused) {
			return err
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return err
		}
	}
}

// probeReason is what the owner reads of a probe that failed: no addresses,
// which are in the log.
func probeReason(err error, limit time.Duration) string {
	if errors.Is(err, ErrRefused) {
		return "the cluster refused the token that Sconce has for it"
	}
	return fmt.Sprintf("the cluster did not answer within %s", limit)
}

// awayReason is probeReason for who wanted a session: one of a cluster that does not
// answer names the state in which its operators see it.
func awayReason(err error, limit time.Duration) string {
	if errors.Is(err, ErrRefused) {
		return probeReason(err, limit)
	}
	return "it is " + string(ClusterUnreachable) + ": " + probeReason(err, limit)
}
