// Package launchtest is the conformance suite of sessions.Launcher, and an engine
// to be launched in tests: a program that is no Spark, but starts, serves
// grpc.health.v1, misbehaves and ends as it is told. It knows no launcher.
package launchtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// Subject is what the suite is run against.
type Subject struct {
	// New returns a launcher of one cluster. Each that one test makes shares the
	// cluster with the others, as replicas do on one machine; what a test leaves
	// is the subject's to end.
	New func(t *testing.T) sessions.Launcher
	// Cluster is its name.
	Cluster string
	// Kill ends an engine behind the launcher's back; nil where that cannot be.
	Kill func(t *testing.T, in sessions.Instance)
}

// patience is how long anything may take that takes seconds at most.
const patience = 3 * time.Minute

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	t.Run("launch, alive, running, stop", func(t *testing.T) { testLife(t, s) })
	t.Run("two launches are two engines", func(t *testing.T) { testTwo(t, s) })
	t.Run("another process sees and stops it", func(t *testing.T) { testOther(t, s) })
	t.Run("stopped twice at once", func(t *testing.T) { testStopTwice(t, s) })
	t.Run("a launch that is given up leaves nothing", func(t *testing.T) { testGivenUp(t, s) })
	t.Run("an engine that dies is gone", func(t *testing.T) { testDies(t, s) })
}

func (s Subject) spec(generation uint64) sessions.LaunchSpec {
	return sessions.LaunchSpec{Cluster: s.Cluster, Session: "s-conformance", Generation: generation, KeepFor: time.Hour}
}

func (s Subject) launch(t *testing.T, l sessions.Launcher, spec sessions.LaunchSpec) sessions.Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stages []string
	in, err := l.Launch(ctx, spec, func(stage string) { stages = append(stages, stage) })
	if err != nil {
		var le *sessions.LaunchError
		if errors.As(err, &le) {
			t.Fatalf("%v\n%s", err, le.Log)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(t, l, in) })
	if len(stages) == 0 || slices.Contains(stages, "") {
		t.Errorf("the stages are %q", stages)
	}
	if in.ID == "" || in.Address == "" {
		t.Errorf("the instance is %+v", in)
	}
	return in
}

// stop also works in a cleanup, when the test's context has ended.
func (s Subject) stop(t *testing.T, l sessions.Launcher, in sessions.Instance) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.Stop(ctx, in); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// probe asks the engine itself.
func probe(t *testing.T, in sessions.Instance) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return sessions.EngineClient{}.Probe(ctx, &sessions.Cluster{Name: "probe", Address: in.Address, Token: in.Token})
}

func (s Subject) running(t *testing.T, l sessions.Launcher) []sessions.Launched {
	t.Helper()
	list, err := l.Running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func find(list []sessions.Launched, id string) *sessions.Launched {
	for i := range list {
		if list[i].ID == id {
			return &list[i]
		}
	}
	return nil
}

func testLife(t *testing.T, s Subject) {
	l, spec := s.New(t), s.spec(7)
	in := s.launch(t, l, spec)
	if err := probe(t, in); err != nil {
		t.Errorf("launched, and it does not serve: %v", err)
	}
	if err := l.Alive(t.Context(), in); err != nil {
		t.Errorf("launched, and not alive: %v", err)
	}
	got := find(s.running(t, l), in.ID)
	if got == nil {
		t.Fatal("launched, and not running")
	}
	if got.Address != in.Address || got.Token != in.Token {
		t.Errorf("running as %+v, launched as %+v", got.Instance, in)
	}
	if got.Spec != spec {
		t.Errorf("running for %+v, launched for %+v", got.Spec, spec)
	}
	s.stop(t, l, in)
	s.stop(t, l, in) // one that has ended is no error
	s.wantGone(t, l, in)
}

// wantGone: nothing of the engine is left, for anybody to see.
func (s Subject) wantGone(t *testing.T, l sessions.Launcher, in sessions.Instance) {
	t.Helper()
	if err := l.Alive(t.Context(), in); !errors.Is(err, sessions.ErrGone) {
		t.Errorf("Alive says %v, want ErrGone", err)
	}
	if find(s.running(t, l), in.ID) != nil {
		t.Error("it is still listed")
	}
	if probe(t, in) == nil {
		t.Error("it still serves")
	}
}

func testTwo(t *testing.T, s Subject) {
	l := s.New(t)
	a, b := s.launch(t, l, s.spec(1)), s.launch(t, l, s.spec(2))
	if a.ID == b.ID || a.Address == b.Address {
		t.Fatalf("two launches are one engine: %+v, %+v", a, b)
	}
	s.stop(t, l, a)
	if err := probe(t, b); err != nil {
		t.Errorf("with the one the other was stopped: %v", err)
	}
}

func testOther(t *testing.T, s Subject) {
	l, other := s.New(t), s.New(t)
	in := s.launch(t, l, s.spec(3))
	if err := other.Alive(t.Context(), in); err != nil {
		t.Errorf("another launcher of the cluster says %v", err)
	}
	if find(s.running(t, other), in.ID) == nil {
		t.Error("another launcher of the cluster does not list it")
	}
	s.stop(t, other, in)
	s.wantGone(t, l, in)
}

func testStopTwice(t *testing.T, s Subject) {
	l, other := s.New(t), s.New(t)
	in := s.launch(t, l, s.spec(4))
	var both sync.WaitGroup
	for _, by := range []sessions.Launcher{l, other, l} {
		both.Go(func() { s.stop(t, by, in) })
	}
	both.Wait()
	s.wantGone(t, l, in)
}

func testGivenUp(t *testing.T, s Subject) {
	l := s.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	in, err := l.Launch(ctx, s.spec(5), func(string) { cancel() })
	var le *sessions.LaunchError
	if !errors.As(err, &le) || le.Reason == "" || le.Cluster != s.Cluster {
		t.Fatalf("a launch that was given up: %+v, %v", in, err)
	}
	if list := s.running(t, l); len(list) > 0 {
		t.Errorf("it left %+v", list)
	}
}

func testDies(t *testing.T, s Subject) {
	if s.Kill == nil {
		return
	}
	l := s.New(t)
	in := s.launch(t, l, s.spec(6))
	s.Kill(t, in)
	stalls, killed := storetest.MeterStalls(t), time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := l.Alive(t.Context(), in)
		if errors.Is(err, sessions.ErrGone) {
			if err.Error() == sessions.ErrGone.Error() {
				t.Error("no reason is given")
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if took, stall := time.Since(killed), stalls.Longest(); took > 5*time.Second+stall {
			t.Fatalf("killed, and alive after %s, of which the machine stood still for %s", took, stall)
		}
		<-tick.C
	}
	if find(s.running(t, l), in.ID) != nil {
		t.Error("it is still listed")
	}
}
