package launch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/launch"
	"github.com/sconce-dev/sconce/sessions/launch/launchtest"
)

func newPool(t *testing.T, cfg launch.Config, size int) *launch.Pool {
	t.Helper()
	return launch.NewPool(launch.PoolConfig{Stock: newProcess(t, cfg), Cluster: cfg.Cluster, Size: size, KeepFor: 2 * time.Hour})
}

// standing waits until n engines stand by, and returns them.
func standing(t *testing.T, p *launch.Pool, n int) []sessions.Launched {
	t.Helper()
	var got launch.Standing
	await(t, func() bool {
		var err error
		got, err = p.Standing(t.Context())
		return err == nil && len(got.Ready) == n && len(got.Stale) == 0
	}, "engines to stand by")
	return got.Ready
}

// stopAll ends what a test launched. It runs when the launchers have ended.
func stopAll(t *testing.T, cfg launch.Config) {
	t.Helper()
	nothingLeft(t, cfg.StateDir)
	t.Cleanup(func() {
		p := newProcess(t, cfg)
		list, err := p.Running(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, l := range list {
			if err := p.Stop(context.Background(), l.Instance); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestPoolHandsOutAndFillsUp(t *testing.T) {
	cfg := fake(t.TempDir(), launchtest.Slow)
	stopAll(t, cfg)
	p := newPool(t, cfg, 2)
	run(t, p)
	waiting := standing(t, p, 2)
	in := mustLaunch(t, p)
	if in.ID != waiting[0].ID {
		t.Errorf("got %s, want the oldest, %s", in.ID, waiting[0].ID)
	}
	list, err := p.Running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if launch.Pooled(l) == (l.ID == in.ID) {
			t.Errorf("pooled %v: %+v", launch.Pooled(l), l)
		}
		if l.ID == in.ID && (l.Spec.Session != spec.Session || l.Spec.Generation != spec.Generation || l.Spec.KeepFor != 2*time.Hour) {
			t.Errorf("taken for %+v, and remembers %+v", spec, l.Spec)
		}
	}
	for _, l := range standing(t, p, 2) {
		if l.ID == in.ID {
			t.Error("it stands by still")
		}
	}
}

func TestPoolIsTakenOver(t *testing.T) {
	cfg := fake(t.TempDir())
	stopAll(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	first := newPool(t, cfg, 1)
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	was := standing(t, first, 1)[0]
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	next := newPool(t, cfg, 1)
	run(t, next)
	if in := mustLaunch(t, next); in.ID != was.ID {
		t.Errorf("got %s, want %s, which stood by", in.ID, was.ID)
	}
}

// Engines that were started with other settings are replaced.
func TestPoolReplacesStaleEngines(t *testing.T) {
	dir := t.TempDir()
	cfg := fake(dir)
	stopAll(t, cfg)
	old := newProcess(t, cfg)
	pooled, err := old.Launch(t.Context(), sessions.LaunchSpec{Cluster: "fake"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	owned := mustLaunch(t, old)
	changed := fake(dir)
	changed.Engine.Env = []string{"A=b"}
	p := newPool(t, changed, 1)
	run(t, p)
	if got := standing(t, p, 1); got[0].ID == pooled.ID {
		t.Error("a stale engine stands by")
	}
	await(t, func() bool { return errors.Is(p.Alive(t.Context(), pooled), sessions.ErrGone) }, "the stale one's end")
	if err := p.Alive(t.Context(), owned); err != nil {
		t.Errorf("one that is owned was replaced: %v", err)
	}
}

// spoil makes the record of an engine one that cannot be read, for as long as the test.
func spoil(t *testing.T, cfg launch.Config, in sessions.Instance) {
	t.Helper()
	path := filepath.Join(cfg.StateDir, cfg.Cluster, in.ID, "engine.json")
	record, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Error(err)
		}
	}
	write(record[:len(record)/2])
	t.Cleanup(func() { write(record) })
}

// An engine whose record cannot be read keeps no other one from standing by, and from
// being listed.
func TestPoolBesideWhatCannotBeRead(t *testing.T) {
	cfg := fake(t.TempDir())
	stopAll(t, cfg)
	spoil(t, cfg, mustLaunch(t, newProcess(t, cfg)))
	p := newPool(t, cfg, 1)
	run(t, p)
	var got launch.Standing
	await(t, func() bool {
		var err error
		got, err = p.Standing(t.Context())
		return err != nil && got.Unread == 1 && len(got.Ready) == 1
	}, "an engine that stands by")
	if list, err := p.Running(t.Context()); err == nil || len(list) != 1 || list[0].ID != got.Ready[0].ID {
		t.Errorf("running are %+v, %v", list, err)
	}
}

// unreadable is a stock whose engines cannot be read once they are started.
type unreadable struct {
	launch.Stock
	started int
}

func (u *unreadable) Standing(context.Context) (launch.Standing, error) {
	if u.started == 0 {
		return launch.Standing{}, nil
	}
	return launch.Standing{Unread: u.started}, errors.New("a record cannot be read")
}

func (u *unreadable) Launch(context.Context, sessions.LaunchSpec, func(string)) (sessions.Instance, error) {
	u.started++
	return sessions.Instance{}, nil
}

func (u *unreadable) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Where no engine can be read that is started, a pool does not start them without end.
func TestPoolOfWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock := &unreadable{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := launch.NewPool(launch.PoolConfig{Stock: stock, Size: 3}).Run(ctx); err != nil {
			t.Fatal(err)
		}
		if stock.started != 6 {
			t.Errorf("%d were started", stock.started)
		}
	})
}

// Two replicas fill one pool; what is too much goes, and nobody gets another's.
func TestPoolOfTwoReplicas(t *testing.T) {
	cfg := fake(t.TempDir())
	stopAll(t, cfg)
	a, b := newPool(t, cfg, 2), newPool(t, cfg, 2)
	run(t, a)
	run(t, b)
	standing(t, a, 2)
	var mu sync.Mutex
	seen := map[string]bool{}
	var all sync.WaitGroup
	for _, p := range []*launch.Pool{a, b, a, b, a, b} {
		all.Go(func() {
			in, err := p.Launch(t.Context(), spec, nil)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[in.ID] {
				t.Errorf("%s was handed out twice", in.ID)
			}
			seen[in.ID] = true
		})
	}
	all.Wait()
	standing(t, b, 2)
	for id := range seen {
		if err := a.Alive(t.Context(), sessions.Instance{ID: id}); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
