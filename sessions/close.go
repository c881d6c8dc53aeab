package sessions

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions/failpoint"
)

// maxReleases is how many closed sessions are released on engines at a time.
const maxReleases = 64

// Close ends a session for ever. Once it is recorded, the streams on this replica
// are cut (OnClosed), other replicas hear of it and cut theirs, and Run tells the
// engine; none of that is waited for but the first. Closing a closed session does
// the rest again and changes nothing else.
func (m *Manager) Close(ctx context.Context, a Actor, id ID) (s Session, err error) {
	_, entry, err := m.checkAndAudit(ctx, a, ActionClose, id)
	if err != nil {
		return Session{}, err
	}
	defer func() { entry.end(err) }()
	return m.close(ctx, id, "closed by "+a.Subject)
}

func (m *Manager) close(ctx context.Context, id ID, reason string) (Session, error) {
	s, err := m.Store.Transition(ctx, id, CloseAt(m.Now(), reason))
	if s.State != Closed { // it may be closed with an error: what is left to tidy up
		return s, err
	}
	failpoint.Hit("close.recorded")
	m.OnClosed(id, ErrClosed)
	m.Release(s)
	return s, err
}

// Release has Run tell the engine of a session that is closed, ReleaseDelay from now. It
// is what a Resolver wants as OnLate: the engine may have been told before, and must be
// again.
func (m *Manager) Release(s Session) {
	if !m.closed.add(s) {
		m.Logger.Warn("engine is not told of a close: it came after the end of Run",
			zap.String("session", string(s.ID)), zap.String("cluster", s.Cluster))
	}
}

// Run closes sessions whose maximum age is over, and tells the engines of closed
// sessions, each ReleaseDelay after its close, until ctx ends. Those that wait then are told at once, and Run returns when all
// have answered, at the latest after ReleaseTimeout. An engine that was not told
// forgets a session when its own time is over. Run is called once.
func (m *Manager) Run(ctx context.Context) error {
	rest, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	slots := make(chan struct{}, maxReleases)
	var tasks sync.WaitGroup
	start := func(closed []Session) {
		for _, s := range closed {
			tasks.Go(func() { m.releaseLater(ctx, rest, s, slots) })
		}
	}
	tasks.Go(func() { m.closeAged(ctx) })
	for {
		select {
		case <-m.closed.added:
			start(m.closed.take())
		case <-ctx.Done():
			defer time.AfterFunc(m.ReleaseTimeout, giveUp).Stop()
			start(m.closed.end())
			tasks.Wait()
			return ctx.Err()
		}
	}
}

// releaseTries is how often an engine is told of a close that does not hear of it, or
// the registry asked which Spark sessions it is about: after 1, 2, 4, 8, 16 and 32 s.
const releaseTries = 7

// releaseLater releases s after ReleaseDelay or at the end of ctx, and gives up
// at the end of rest.
func (m *Manager) releaseLater(ctx, rest context.Context, s Session, slots chan struct{}) {
	wait := m.ReleaseDelay
	for n, again := 0, time.Second; ; n, again = n+1, 2*again {
		_ = pause(ctx, wait)
		err := m.releaseIn(rest, s, slots)
		if err == nil {
			break
		}
		if n+1 == releaseTries || ctx.Err() != nil {
			m.Logger.Warn("engine was not told of a close: it keeps the session until its own time is over",
				zap.String("session", string(s.ID)), zap.String("cluster", s.Cluster), zap.Error(err))
			break
		}
		wait = again
	}
	failpoint.Hit("close.released")
	m.Waker.depart(s)
}

func (m *Manager) releaseIn(rest context.Context, s Session, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-rest.Done(): // release finds it so
	}
	return m.release(rest, s)
}

func (m *Manager) release(ctx context.Context, s Session) error {
	ctx, cancel := context.WithTimeout(ctx, m.ReleaseTimeout)
	defer cancel()
	cluster, err := m.Clusters.Get(s.Cluster)
	if err != nil {
		return err
	}
	if cluster.Launcher != nil && cluster.Isolation != IsolateNone {
		return nil // the engine goes as a whole
	}
	bound, err := m.Store.Bound(ctx, s.ID)
	if err != nil || len(bound) == 0 {
		return err
	}
	return m.Engine.Release(ctx, cluster.at(s.Engine), s.Owner, bound)
}

// backlog is the closed sessions that Run has not seen yet.
type backlog struct {
	added chan struct{} // holds a token if there are any

	mu       sync.Mutex
	sessions []Session
	ended    bool
}

func newBacklog() *backlog { return &backlog{added: make(chan struct{}, 1)} }

// add says whether somebody will see s.
func (b *backlog) add(s Session) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return false
	}
	b.sessions = append(b.sessions, s)
	select {
	case b.added <- struct{}{}:
	default:
	}
	return true
}

func (b *backlog) take() []Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.sessions
	b.sessions = nil
	return taken
}

// end is the last take.
func (b *backlog) end() []Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	taken := b.sessions
	b.sessions = nil
	return taken
}
