package launch

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

// Pooled says whether an engine stands by and is nobody's yet.
func Pooled(l sessions.Launched) bool { return l.Spec.Session == "" && l.Spec.Generation == 0 }

// retired is the generation of an engine that stood by and is no longer wanted.
const retired = math.MaxUint64

// ErrTaken: an engine that stood by is another's, or has ended.
var ErrTaken = errors.New("the engine does not stand by any more")

// Standing are engines that stand by.
type Standing struct {
	// Ready would be started the same way today; Stale would not.
	Ready, Stale []sessions.Launched
	// Unread is how many engines may run of which it cannot be told whether they stand by.
	Unread int
}

// Stock is a launcher whose engines can be started before anybody wants them.
type Stock interface {
	sessions.Launcher
	// Standing lists the engines that stand by, the oldest first, with an error those
	// that it could tell of.
	Standing(ctx context.Context) (Standing, error)
	// Claim makes an engine that stands by spec's, for one caller of all there are
	// on this machine. ErrTaken for the others.
	Claim(ctx context.Context, in sessions.Instance, spec sessions.LaunchSpec) error
	Run(ctx context.Context) error
}

// Standing lists the engines that stand by.
func (p *Process) Standing(context.Context) (Standing, error) {
	var s Standing
	list, unread, err := p.records()
	s.Unread = unread
	for _, r := range list {
		switch {
		case !Pooled(r.Launched):
		case r.Hash == p.hash:
			s.Ready = append(s.Ready, r.Launched)
		default:
			s.Stale = append(s.Stale, r.Launched)
		}
	}
	slices.SortFunc(s.Ready, func(a, b sessions.Launched) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return s, err
}

// Claim makes an engine that stands by spec's.
func (p *Process) Claim(_ context.Context, in sessions.Instance, spec sessions.LaunchSpec) error {
	f, err := p.folder(in.ID)
	if err != nil {
		return err
	}
	err = f.claim(func() error {
		r, err := f.record()
		if err != nil {
			return err
		}
		if kept, err := f.kept(); err != nil {
			return err
		} else if !kept || !Pooled(r.Launched) {
			return ErrTaken
		}
		keepFor := r.Spec.KeepFor // it was told so when it started
		r.Spec = spec
		r.Spec.KeepFor = keepFor
		return f.write(fileRecord, r)
	})
	if isGone(err) {
		return ErrTaken
	}
	return err
}

// PoolConfig is what a Pool is made of.
type PoolConfig struct {
	Stock   Stock
	Cluster string
	// Size is how many engines stand by.
	Size int
	// KeepFor is that of all its engines, whatever a LaunchSpec says.
	KeepFor time.Duration
	Logger  *zap.Logger // nil = none
}

// Pool hands out engines that stand by, and starts others for them. It is a
// sessions.Launcher. Several on one machine share what stands by.
type Pool struct {
	Stock
	cfg   PoolConfig
	log   *zap.Logger
	taken chan struct{} // one was: fill up
	said  string        // of listing, the fault that fill said last
}

// NewPool starts nothing: engines stand by once Run runs.
func NewPool(cfg PoolConfig) *Pool {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	return &Pool{Stock: cfg.Stock, cfg: cfg, log: cfg.Logger.With(zap.String("cluster", cfg.Cluster)), taken: make(chan struct{}, 1)}
}

// Launch takes an engine that stands by, or starts one where none does.
func (p *Pool) Launch(ctx context.Context, spec sessions.LaunchSpec, stage func(string)) (sessions.Instance, error) {
	spec.KeepFor = p.cfg.KeepFor
	defer p.fillSoon()
	standing, err := p.Standing(ctx)
	if err != nil {
		p.log.Warn("what stands by cannot be listed", zap.Error(err))
	}
	for _, l := range standing.Ready {
		err := p.Claim(ctx, l.Instance, spec)
		if err == nil {
			if stage != nil {
				stage("taking an engine that stands by")
			}
			return l.Instance, nil
		}
		if !errors.Is(err, ErrTaken) {
			p.log.Warn("an engine that stands by cannot be taken", zap.String("engine", l.ID), zap.Error(err))
		}
	}
	return p.Stock.Launch(ctx, spec, stage)
}

func (p *Pool) fillSoon() {
	select {
	case p.taken <- struct{}{}:
	default:
	}
}

// How often a pool looks whether it is full, and how long it waits at most after
// starts that failed.
const (
	fillEvery   = 5 * time.Second
	fillBackoff = 5 * time.Minute
)

// Run keeps the pool full, until ctx ends. What stands by then stays: the next
// Run takes it over.
func (p *Pool) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var full sync.WaitGroup
	full.Go(func() { p.keepFull(ctx) })
	err := p.Stock.Run(ctx)
	cancel()
	full.Wait()
	return err
}

func (p *Pool) keepFull(ctx context.Context) {
	wait := fillEvery
	for ctx.Err() == nil {
		if err := p.fill(ctx); err == nil {
			wait = fillEvery
		} else if ctx.Err() == nil {
			p.log.Warn("an engine that should stand by does not", zap.Error(err), zap.Duration("retry_in", wait))
			wait = min(2*wait, fillBackoff)
		}
		timer := time.NewTimer(wait)
		taken := p.taken
		if wait > fillEvery {
			taken = nil // a start failed: no hurry helps
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-taken:
		}
		timer.Stop()
	}
}

// fill starts what is missing, one after the other, and stops what is too much:
// replicas on one machine may have filled at the same time. An engine that cannot be
// read may stand by or not: it is not counted on, but no more of them are made than the
// pool has places.
func (p *Pool) fill(ctx context.Context) error {
	for {
		standing, err := p.Standing(ctx)
		if err != nil && standing.Unread == 0 { // nothing can be told
			return err
		}
		p.listed(err)
		surplus := standing.Stale
		if n := len(standing.Ready); n > p.cfg.Size {
			surplus = append(surplus, standing.Ready[p.cfg.Size:]...)
		}
		for _, l := range surplus {
			if err := p.retire(ctx, l.Instance); err != nil {
				return err
			}
		}
		switch {
		case len(standing.Ready) >= p.cfg.Size:
			return nil
		case len(standing.Ready)+standing.Unread >= 2*p.cfg.Size:
			return err
		}
		spec := sessions.LaunchSpec{Cluster: p.cfg.Cluster, KeepFor: p.cfg.KeepFor}
		if _, err := p.Stock.Launch(ctx, spec, nil); err != nil {
			return err
		}
	}
}

// listed says what cannot be listed, when that is news.
func (p *Pool) listed(err error) {
	said := ""
	if err != nil {
		said = err.Error()
	}
	if said != p.said && said != "" {
		p.log.Warn("not all that stands by can be listed", zap.Error(err))
	}
	p.said = said
}

// retire stops an engine that stands by, once nobody else can take it.
func (p *Pool) retire(ctx context.Context, in sessions.Instance) error {
	err := p.Claim(ctx, in, sessions.LaunchSpec{Cluster: p.cfg.Cluster, Generation: retired})
	if errors.Is(err, ErrTaken) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.Stop(ctx, in)
}
