package sessions

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/sessions/failpoint"
)

// WakeStore is the part of the registry that a Waker needs.
type WakeStore interface {
	EngineStore
	UseStore
	DrainStore
	Get(ctx context.Context, ids ...ID) ([]Session, error)
	Transition(ctx context.Context, id ID, t Transition) (Session, error)
}

// WakerConfig is what a Waker is made of.
type WakerConfig struct {
	Store    WakeStore // required
	Engine   Engine    // required
	Clusters Clusters

	// Restore brings the state of the session's Spark sessions onto an engine that
	// never saw them. An error means that the session cannot run there. nil = there
	// is nothing to bring.
	Restore func(ctx context.Context, c *Cluster, s Session) error
	// Timeout is how long one wake may take, from the lease to the active session: longer
	// than any launcher's own time to start. 0 = 5 min.
	Timeout time.Duration
	// StopTimeout is how long an engine may take to stop: longer than any launcher's own
	// time to do it. 0 = 2 min.
	StopTimeout time.Duration
	// ProbeTimeout is how long a cluster that is an address has to answer. 0 = 30 s.
	ProbeTimeout time.Duration
	// Lease is how long a right to wake outlives a process that died with it; it is
	// renewed three times as often. 0 = 10 s.
	Lease time.Duration
	// Poll is how often a wake of another replica is looked at. 0 = 200 ms.
	Poll time.Duration
	// Backoff is how long after a wake that failed the next one is answered with the
	// same error. 0 = 5 s.
	Backoff time.Duration
	// Staged hears how long each stage of a wake took, Woken how each ended; nil =
	// nobody wants to know.
	Staged func(cluster, stage string, took time.Duration)
	Woken  func(cluster, outcome string, took time.Duration)

	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Logger; nil = none.
	Logger *zap.Logger
}

// Waker brings sessions from pending or idle to active. However many callers and
// replicas want one session awake, one of them wakes it: it holds the session's
// lease, and its steps are fenced by the session's generation and the engine's lease.
//
// A wake goes on when its callers leave. Methods are safe for any goroutine.
type Waker struct {
	WakerConfig

	mu     sync.Mutex
	wakes  map[ID]*waking
	failed map[ID]failedWake
	over   bool
	tasks  sync.WaitGroup
	ctx    context.Context //nolint:containedctx // the wakes' own: they outlive their callers
	cancel context.CancelFunc
}

// waking is a wake under way here.
type waking struct {
	done chan struct{}
	err  error
}

type failedWake struct {
	err error
	at  time.Time
}

// maxFailed bounds how many failed wakes are remembered.
const maxFailed = 4096

// NewWaker checks c. Call Close at the end.
func NewWaker(c WakerConfig) (*Waker, error) {
	if c.Store == nil || c.Engine == nil {
		return nil, errors.New("waker: store and engine are needed")
	}
	setDefault(&c.Timeout, 5*time.Minute)
	setDefault(&c.StopTimeout, 2*time.Minute)
	setDefault(&c.ProbeTimeout, 30*time.Second)
	setDefault(&c.Lease, 10*time.Second)
	setDefault(&c.Poll, 200*time.Millisecond)
	setDefault(&c.Backoff, 5*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Restore == nil {
		c.Restore = func(context.Context, *Cluster, Session) error { return nil }
	}
	if c.Staged == nil {
		c.Staged = func(string, string, time.Duration) {}
	}
	if c.Woken == nil {
		c.Woken = func(string, string, time.Duration) {}
	}
	w := &Waker{WakerConfig: c, wakes: map[ID]*waking{}, failed: map[ID]failedWake{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w, nil
}

// Close gives up the wakes that are under way: what they launched is stopped, and
// another replica, or the next request, begins anew.
func (w *Waker) Close() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.cancel()
	w.tasks.Wait()
}

// Wakeable says whether a session in that state can become active by waking it.
func (cs Clusters) Wakeable(s Session) bool {
	switch s.State {
	case Pending, Idle:
		return true
	case Failed:
		c, err := cs.Get(s.Cluster)
		return err == nil && c.Launcher != nil && !c.NeverRestart && s.Generation > 0
	}
	return false
}

// Wake returns when the session is no longer in the state of s, or cannot be
// brought out of it: a *LaunchError or a *ClusterError. The error of ctx, or
// ErrPending where its deadline passed, leaves the wake going on.
func (w *Waker) Wake(ctx context.Context, s Session) error {
	wake, err := w.begin(s)
	if err != nil {
		return err
	}
	select {
	case <-wake.done:
		return wake.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", ErrPending, ctx.Err())
		}
		return ctx.Err()
	}
}

// begin joins the wake of s that is under way here, or starts one.
func (w *Waker) begin(s Session) (*waking, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := w.wakes[s.ID]; k != nil {
		return k, nil
	}
	if w.over {
		return nil, ErrPending
	}
	if f, ok := w.failed[s.ID]; ok {
		if w.Now().Sub(f.at) < w.Backoff {
			return nil, f.err
		}
		delete(w.failed, s.ID)
	}
	k := &waking{done: make(chan struct{})}
	w.wakes[s.ID] = k
	w.tasks.Go(func() {
		began := w.Now()
		ctx, cancel := context.WithTimeout(w.ctx, w.Timeout)
		defer cancel()
		k.err = w.wake(ctx, s)
		if tooLong(k.err) && ctx.Err() != nil {
			k.err = fmt.Errorf("%w: waking it took more than %s", ErrPending, w.Timeout)
		}
		w.end(s, k, w.Now().Sub(began))
	})
	return k, nil
}

// waking says that a wake of that session is under way here.
func (w *Waker) waking(id ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wakes[id] != nil
}

// tooLong says that the time was over, in our words or in an engine's.
func tooLong(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}

// end tells the callers how their wake ended.
func (w *Waker) end(s Session, k *waking, took time.Duration) {
	outcome := "done"
	if k.err != nil {
		outcome = "failed"
		w.Logger.Warn("session was not woken", zap.String("session", string(s.ID)), zap.String("cluster", s.Cluster),
			zap.Duration("took", took), zap.Error(k.err))
	}
	w.Woken(s.Cluster, outcome, took)
	w.mu.Lock()
	delete(w.wakes, s.ID)
	if isFailure(k.err) {
		for old := range w.failed { // any will do
			if len(w.failed) < maxFailed {
				break
			}
			delete(w.failed, old)
		}
		w.failed[s.ID] = failedWake{k.err, w.Now()}
	}
	w.mu.Unlock()
	close(k.done)
}

// isFailure says that an engine or a cluster could not be had, which the next
// caller need not find out again at once.
func isFailure(err error) bool {
	var launch *LaunchError
	var setup *SetupError
	return errors.As(err, &launch) || errors.As(err, &setup) || errors.Is(err, ErrClusterNotActive)
}

// wake waits for the session's lease, or for somebody else to have done it.
func (w *Waker) wake(ctx context.Context, was Session) error {
	token := uuid.NewString()
	for {
		mine, err := w.Store.LeaseSession(ctx, was.ID, token, w.Lease)
		if err != nil {
			return err
		}
		now, err := w.reread(ctx, was.ID)
		if err != nil || !w.Clusters.Wakeable(now) || now.Generation != was.Generation {
			if mine {
				w.giveBack(was.ID, token)
			}
			return err
		}
		if mine {
			return w.leased(ctx, now, token)
		}
		if err := pause(ctx, w.Poll); err != nil {
			return err
		}
	}
}

func (w *Waker) reread(ctx context.Context, id ID) (Session, error) {
	found, err := w.Store.Get(ctx, id)
	if err != nil {
		return Session{}, err
	}
	if len(found) == 0 {
		return Session{}, ErrNotFound
	}
	return found[0], nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *Waker) giveBack(id ID, token string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), time.Second)
	defer cancel()
	if err := w.Store.UnleaseSession(ctx, id, token); err != nil {
		w.Logger.Debug("lease was not given back: it runs out", zap.String("session", string(id)), zap.Error(err))
	}
}

// leased wakes the session under its lease. It ends with the lease.
func (w *Waker) leased(ctx context.Context, s Session, token string) error {
	defer w.giveBack(s.ID, token)
	ctx, stop := w.keep(ctx, func(ctx context.Context) (bool, error) {
		return w.Store.LeaseSession(ctx, s.ID, token, w.Lease)
	})
	defer stop()
	failpoint.Hit("wake.leased")
	cluster, err := w.Clusters.Get(s.Cluster)
	if err != nil {
		return err
	}
	p := &progress{waker: w, session: s, lease: token, began: w.Now(), since: w.Now()}
	if cluster.Launcher == nil {
		err = w.activate(ctx, p, cluster)
	} else {
		err = w.bringUp(ctx, p, cluster)
	}
	p.end(err)
	if cause := context.Cause(ctx); errors.Is(cause, ErrLeaseLost) {
		return cause
	}
	return err
}

// keep renews a lease until stop; the context that it returns ends, with
// ErrLeaseLost as its cause, when the lease could not be renewed in time.
func (w *Waker) keep(ctx context.Context, renew func(context.Context) (bool, error)) (leased context.Context, stop func()) {
	leased, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		renewed := w.Now()
		for pause(leased, w.Lease/3) == nil {
			mine, err := renew(leased)
			switch {
			case err == nil && mine:
				renewed = w.Now()
			case err == nil, w.Now().Sub(renewed) > w.Lease*2/3:
				cancel(ErrLeaseLost)
				return
			}
		}
	}()
	return leased, func() {
		cancel(context.Canceled)
		<-done
	}
}

// activate wakes a session of a cluster that is an address: nothing is brought up.
func (w *Waker) activate(ctx context.Context, p *progress, c *Cluster) error {
	p.stage(ctx, "waiting for the cluster")
	if err := probeUntil(ctx, w.Engine, c, w.ProbeTimeout); err != nil {
		return &ClusterError{Cluster: c.Name, Session: p.session.ID, Reason: awayReason(err, w.ProbeTimeout)}
	}
	if err := w.trySetup(ctx, p, c); err != nil {
		return err
	}
	return w.become(ctx, p.session, nil)
}

// trySetup has the engine of a session that was never active say whether it takes
// what the session chose, in a Spark session of its own that is released afterwards.
func (w *Waker) trySetup(ctx context.Context, p *progress, c *Cluster) error {
	s := p.session
	if s.Generation > 0 || !s.HasSetup() {
		return nil
	}
	p.stage(ctx, "trying the session's settings")
	ctx, cancel := context.WithTimeout(ctx, w.ProbeTimeout)
	defer cancel()
	trial := SparkID(uuid.NewString())
	err := w.Engine.Prepare(ctx, c, s, trial)
	rest, stop := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer stop()
	// The engine forgets it by itself in the end, should this fail.
	_ = w.Engine.Release(rest, c, s.Owner, []SparkID{trial})
	if errors.Is(err, ErrEngineAway) || errors.Is(err, ErrRefused) {
		return &ClusterError{Cluster: c.Name, Session: s.ID, Reason: probeReason(err, w.ProbeTimeout)}
	}
	return err
}
