package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// pool is a cluster of which one engine stands by.
type pool struct {
	config  string
	dir     string // of what Sconce keeps
	cluster string
}

// newPool has the test fail when something of its engines is left behind it.
func newPool(t *testing.T, w *world) *pool {
	t.Helper()
	p := &pool{}
	p.cluster, p.config, p.dir = alone(t, w, "isolation: session, warm: 1")
	t.Cleanup(func() {
		within(t, time.Minute, "no engine is left", func() bool { return len(below(t, p.dir)) == 0 })
	})
	return p
}

// engines are what is recorded of the pool's engines, and how many are being started.
func (p *pool) engines() (recorded []sessions.Launched, starting int, err error) {
	folders, err := filepath.Glob(filepath.Join(p.dir, "engines", p.cluster, p.cluster+"-*"))
	if err != nil {
		return nil, 0, err
	}
	for _, folder := range folders {
		text, err := os.ReadFile(filepath.Join(folder, "engine.json"))
		if errors.Is(err, fs.ErrNotExist) {
			starting++ // or it is being removed
			continue
		} else if err != nil {
			return nil, 0, err
		}
		var l sessions.Launched
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, 0, err
		}
		recorded = append(recorded, l)
	}
	return recorded, starting, nil
}

// standby is an engine that stands by, and its process.
type standby struct {
	sessions.Launched
	pid int
}

// full waits until one engine stands by, and no other is on its way.
func (p *pool) full(ctx context.Context) (one standby, err error) {
	err = until(ctx, time.Minute, "one engine stands by", func() (bool, error) {
		recorded, starting, err := p.engines()
		n := 0
		for _, l := range recorded {
			if l.Spec.Session == "" && l.Spec.Generation == 0 {
				one.Launched = l
				n++
			}
		}
		return n == 1 && starting == 0, err
	})
	if err == nil {
		one.pid, err = pidAt(p.dir, one.Address)
	}
	return one, err
}

func (p *pool) mustBeFull(t *testing.T) standby {
	t.Helper()
	one, err := p.full(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return one
}

// leaves waits until nobody's engine is left but the one that stands by.
func (p *pool) leaves(t *testing.T) standby {
	t.Helper()
	err := until(t.Context(), time.Minute, "one engine is left", func() (bool, error) {
		recorded, _, err := p.engines()
		return len(recorded) == 1, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p.mustBeFull(t)
}

// took checks that the session runs on the process that stood by, and that this is its
// by record.
func (p *pool) took(t *testing.T, w *world, s *session, stood standby) {
	t.Helper()
	address := engineOf(t, w.redisAddress, s)
	if pid := mustPID(t, p.dir, address); address != stood.Address || pid != stood.pid {
		t.Fatalf("it runs on process %d at %s, and %d at %s stood by", pid, address, stood.pid, stood.Address)
	}
	generation := s.described(t).Generation
	recorded, _, err := p.engines()
	if err != nil {
		t.Fatal(err)
	}
	known := false
	for _, l := range recorded {
		if l.ID != stood.ID {
			continue
		}
		known = true
		if string(l.Spec.Session) != s.ID || l.Spec.Generation != generation {
			t.Errorf("session %s has engine %s in generation %d, and its record says %+v", s.ID, l.ID, generation, l.Spec)
		}
	}
	if !known {
		t.Errorf("nothing is recorded of engine %s", stood.ID)
	}
}

// taken and started are how many sessions came by an engine by way of g, by how.
func (p *pool) taken(t *testing.T, g *gateway) (taken, started float64) {
	t.Helper()
	stage := func(name string) float64 {
		return g.metric(t, fmt.Sprintf("sconce_wake_stage_seconds_count{cluster=%q,stage=%q}", p.cluster, name))
	}
	return stage("taking an engine that stands by"), stage("starting Sail")
}

// TestWarm: a create and a wake take the engine that stands by, and nothing of their
// own is started. Another one takes its place.
func TestWarm(t *testing.T) {
	w := needs(t)
	p := newPool(t, w)
	one := w.gate.replica(t, p.config)
	first := p.mustBeFull(t)
	s := one.sleepy(t, p.cluster, "--catalog", "lake")
	p.took(t, w, s, first)
	if taken, started := p.taken(t, one); taken != 1 || started != 0 {
		t.Errorf("the metrics tell of %v sessions that took an engine which stood by, and of %v that started one", taken, started)
	}
	if next := p.mustBeFull(t); next.pid == first.pid {
		t.Error("what was taken stands by")
	}
	two := w.gate.replica(t, p.config)
	var second standby
	s.pauses(t, two, func(ctx context.Context) error {
		engine, err := s.engine(ctx, w.redisAddress)
		if err != nil {
			return err
		}
		if err := s.sleeps(ctx, engine); err != nil {
			return err
		}
		second, err = p.full(ctx)
		return err
	}, func(url, scratch string) line {
		return newest.run(t, w, job{URL: url, Other: url, Cases: []string{"wake_sail"}, Scratch: scratch}, 6*time.Minute)["wake_sail"]
	})
	p.took(t, w, s, second)
	if taken, started := p.taken(t, two); taken != 1 || started != 0 {
		t.Errorf("the metrics tell of %v wakes that took an engine which stood by, and of %v that started one", taken, started)
	}
	s.close(t)
	left := p.leaves(t)
	for _, pid := range []int{first.pid, second.pid} {
		if left.pid == pid {
			t.Error("what was taken stands by")
		}
		within(t, 30*time.Second, "the process of what was taken is gone", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	}
}

// TestWarmForOne: of sessions that wake at once, by way of two replicas, one gets the
// engine that stands by, and no two get the same.
func TestWarmForOne(t *testing.T) {
	w := needs(t)
	p := newPool(t, w)
	gates := []*gateway{w.gate.replica(t, p.config), nil}
	p.mustBeFull(t)
	gates[1] = w.gate.replica(t, p.config)
	list := make([]*session, 4)
	for i := range list {
		list[i] = gates[i%2].sleepy(t, p.cluster)
	}
	for _, s := range list {
		within(t, time.Minute, "the session becomes idle", func() bool { return s.state(t) == "idle" })
	}
	stood := p.leaves(t)
	var all sync.WaitGroup
	begin, pids := make(chan struct{}), make([]int, len(list))
	for i, s := range list {
		caller := s.caller(t)
		all.Go(func() {
			<-begin
			var err error
			if pids[i], err = p.wakes(t.Context(), w, s, caller); err != nil {
				t.Error(err)
			}
		})
	}
	close(begin)
	all.Wait()
	on := map[int]string{}
	for i, s := range list {
		if other := on[pids[i]]; other != "" {
			t.Errorf("sessions %s and %s have one engine", other, s.ID)
		}
		on[pids[i]] = s.ID
	}
	if on[stood.pid] == "" {
		t.Errorf("nobody has the engine that stood by, but %v", on)
	}
	if next := p.mustBeFull(t); on[next.pid] != "" {
		t.Errorf("the engine of session %s stands by", on[next.pid])
	}
}

// wakes has the session answer, and returns the process that it is on then.
func (p *pool) wakes(ctx context.Context, w *world, s *session, caller *caller) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := caller.call(ctx, "ExecutePlan", request(newUUID(), "ada").query("SELECT 1")); err != nil {
		return 0, err
	}
	address, err := s.engine(ctx, w.redisAddress)
	if err != nil {
		return 0, err
	}
	return pidAt(p.dir, address)
}
