package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replica is one resolver on a registry in memory, and what it said of ends.
type replica struct {
	*sessions.Resolver
	t      testing.TB
	memory *storetest.Memory

	mu   sync.Mutex
	ends []error
}

func clusters(t testing.TB) sessions.Clusters {
	t.Helper()
	cs, err := sessions.NewClusters([]sessions.Cluster{{Name: "c", Address: "127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func newReplica(t testing.TB, memory *storetest.Memory, change func(*sessions.ResolverConfig)) *replica {
	t.Helper()
	r := &replica{t: t, memory: memory}
	conf := sessions.ResolverConfig{Directory: memory, Clusters: clusters(t), OnEnd: r.ended}
	if change != nil {
		change(&conf)
	}
	var err error
	if r.Resolver, err = sessions.NewResolver(conf); err != nil {
		t.Fatal(err)
	}
	return r
}

// run starts the resolver in a synctest bubble; it ends with the test.
func (r *replica) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

func (r *replica) ended(_ sessions.ID, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = append(r.ends, why)
}

// wantEnds compares how often OnEnd was called, each time for that reason.
func (r *replica) wantEnds(n int, why error) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ends) != n || slices.ContainsFunc(r.ends, func(e error) bool { return !errors.Is(e, why) }) {
		r.t.Errorf("ends %v, want %d of %v", r.ends, n, why)
	}
}

func (r *replica) lookup(id sessions.ID) *sessions.Route {
	r.t.Helper()
	route, err := r.Lookup(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return route
}

func (r *replica) wantLookup(id sessions.ID, want error) {
	r.t.Helper()
	if _, err := r.Lookup(context.Background(), id); !errors.Is(err, want) {
		r.t.Errorf("Lookup: %v, want %v", err, want)
	}
}

func (r *replica) wantTry(id sessions.ID, want bool) {
	r.t.Helper()
	if _, ok := r.TryLookup(id); ok != want {
		r.t.Errorf("TryLookup: %v, want %v", ok, want)
	}
}

var made int

func newID(t testing.TB) sessions.ID {
	t.Helper()
	made++
	id, err := sessions.NewID(time.Now(), new(counter))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// counter is a source of bytes that never repeats itself within a test binary.
type counter struct{}

func (*counter) Read(p []byte) (int, error) {
	copy(p, fmt.Sprintf("%0*d", len(p), made))
	return len(p), nil
}

// pending and active make a session in the registry.
func pending(t testing.TB, m *storetest.Memory) sessions.Session {
	t.Helper()
	s, err := m.Create(context.Background(), sessions.Session{
		ID: newID(t), Owner: "ann", Org: "acme", Cluster: "c", State: sessions.Pending, CreatedAt: time.Now(),
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func active(t testing.TB, m *storetest.Memory) sessions.Session {
	t.Helper()
	return step(t, m, pending(t, m), sessions.Active)
}

func step(t testing.TB, m *storetest.Memory, s sessions.Session, to sessions.State) sessions.Session {
	t.Helper()
	s, err := m.Transition(context.Background(), s.ID, sessions.Transition{From: s.State, Generation: s.Generation, To: to, Reason: "because", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		s := active(t, m)
		r.wantTry(s.ID, false)
		route := r.lookup(s.ID)
		if route.Session != s || route.Cluster.Name != "c" {
			t.Errorf("route %+v", route)
		}
		r.wantTry(s.ID, true)
		if again := r.lookup(s.ID); again != route {
			t.Error("an unchanged session has a new route")
		}
		if m.Gets() != 1 {
			t.Errorf("%d reads of the registry, want 1", m.Gets())
		}
	})
}

func TestLookupRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.wantLookup(newID(t), sessions.ErrNotFound)
		r.wantLookup(step(t, m, active(t, m), sessions.Closed).ID, sessions.ErrClosed)
		failed := step(t, m, active(t, m), sessions.Failed)
		r.wantLookup(failed.ID, sessions.ErrFailed)
		var why *sessions.FailedError
		if _, err := r.Lookup(t.Context(), failed.ID); !errors.As(err, &why) || why.Session != failed.ID || why.Reason != "because" || why.Generation != 1 {
			t.Errorf("a failed session says %v", err)
		}
		reads := m.Gets()
		r.wantLookup(failed.ID, sessions.ErrFailed)
		if m.Gets() != reads {
			t.Error("a failed session is read each time")
		}
		time.Sleep(3 * time.Second)
		r.wantLookup(failed.ID, sessions.ErrFailed)
		if m.Gets() != reads+1 {
			t.Error("a failed session is believed for ever")
		}
		r.Clusters = nil
		r.wantLookup(active(t, m).ID, sessions.ErrNoCluster)
		r.wantEnds(0, nil)
	})
}

// Whose a session is can be seen of its record, whatever became of it.
func TestRecordOfWhatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		if s, err := r.Record(t.Context(), newID(t)); !errors.Is(err, sessions.ErrNotFound) || s.ID != "" {
			t.Errorf("one that is not there: %v, %v", s, err)
		}
		over := map[sessions.ID]error{
			step(t, m, active(t, m), sessions.Closed).ID: sessions.ErrClosed,
			step(t, m, active(t, m), sessions.Failed).ID: sessions.ErrFailed,
		}
		for id, want := range over {
			if s, err := r.Record(t.Context(), id); !errors.Is(err, want) || s.ID != id || s.Owner == "" || s.Org == "" {
				t.Errorf("%v: record %q of %q in %q, %v", want, s.ID, s.Owner, s.Org, err)
			}
		}
		r.Clusters = nil
		if s, err := r.Record(t.Context(), active(t, m).ID); !errors.Is(err, sessions.ErrNoCluster) || s.Owner == "" {
			t.Errorf("without its cluster: owner %q, %v", s.Owner, err)
		}
	})
}

func TestLookupsShareOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		s, gate := active(t, m), make(chan struct{})
		m.Gate(gate)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { r.lookup(s.ID) })
		}
		synctest.Wait() // one of them reads, the others wait for it
		gone, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := r.Lookup(gone, s.ID); !errors.Is(err, context.Canceled) {
				t.Errorf("a caller that gave up: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		if m.Gets() != 1 {
			t.Errorf("%d reads of the registry, want 1", m.Gets())
		}
	})
}

func TestLookupWaitsWhilePending(t *testing.T) {
	for _, c := range []struct {
		name string
		run  bool // the resolver hears of changes; else it looks from time to time
		most time.Duration
	}{{"by push", true, 0}, {"by itself", false, time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := storetest.NewMemory()
				r := newReplica(t, m, nil)
				if c.run {
					r.run(t)
				}
				s, began := pending(t, m), time.Now()
				got := make(chan *sessions.Route)
				go func() { got <- r.lookup(s.ID) }()
				time.Sleep(9700 * time.Millisecond)
				s = step(t, m, s, sessions.Active)
				if route := <-got; route.Session != s {
					t.Errorf("route of %+v", route.Session)
				}
				if waited := time.Since(began) - 9700*time.Millisecond; waited > c.most {
					t.Errorf("waited %s", waited)
				}
			})
		})
	}
}

func TestLookupOfPendingEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		s := pending(t, m)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := r.Lookup(ctx, s.ID); !errors.Is(err, sessions.ErrPending) {
			t.Errorf("error %v", err)
		}
		if time.Since(began) != 30*time.Second {
			t.Errorf("waited %s", time.Since(began))
		}
	})
}

// Whoever reads for others goes on when its own caller leaves.
func TestReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		s, gate := active(t, m), make(chan struct{})
		m.Gate(gate)
		reader, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = r.Lookup(reader, s.ID) })
		synctest.Wait()
		wg.Go(func() { r.lookup(s.ID) })
		synctest.Wait()
		leave()
		synctest.Wait()
		close(gate)
		wg.Wait()
	})
}

func TestNotFoundIsRememberedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		none := newID(t)
		for range 10 {
			r.wantLookup(none, sessions.ErrNotFound)
		}
		if m.Gets() != 1 {
			t.Errorf("%d reads for one missing session", m.Gets())
		}
		time.Sleep(2 * time.Second)
		r.wantLookup(none, sessions.ErrNotFound)
		if m.Gets() != 2 {
			t.Errorf("%d reads after a while, want 2", m.Gets())
		}
	})
}

func TestBind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		one, two := newReplica(t, m, nil), newReplica(t, m, nil)
		s, spark := active(t, m), sessions.SparkID(uuid.NewString())
		early := two.lookup(s.ID)
		route := one.lookup(s.ID)
		if route.Bound(spark) {
			t.Error("bound before its first use")
		}
		if err := one.Bind(t.Context(), route, spark); err != nil || !route.Bound(spark) {
			t.Errorf("bind: %v", err)
		}
		if early.Bound(spark) {
			t.Error("another replica can't know yet")
		}
		if err := two.Bind(t.Context(), early, spark); err != nil || !early.Bound(spark) {
			t.Errorf("bind on another replica: %v", err)
		}
		if third := newReplica(t, m, nil).lookup(s.ID); !third.Bound(spark) {
			t.Error("a replica that reads the session later does not know what is bound")
		}
		other := one.lookup(active(t, m).ID)
		if err := one.Bind(t.Context(), other, spark); !errors.Is(err, sessions.ErrForeignSpark) || other.Bound(spark) {
			t.Errorf("another session's id: %v", err)
		}
		step(t, m, s, sessions.Closed)
		if err := one.Bind(t.Context(), route, sessions.SparkID(uuid.NewString())); !errors.Is(err, sessions.ErrClosed) {
			t.Errorf("bind on a closed session: %v", err)
		}
	})
}

// A route that is kept while the session changes still learns what is bound.
func TestRoutesOfOneSessionShareWhatIsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		s := active(t, m)
		old := r.lookup(s.ID)
		s = step(t, m, s, sessions.Idle)
		s = step(t, m, s, sessions.Active)
		synctest.Wait()
		now, spark := r.lookup(s.ID), sessions.SparkID(uuid.NewString())
		if now == old || now.Session.Generation != 2 {
			t.Fatalf("route of generation %d", now.Session.Generation)
		}
		if err := r.Bind(t.Context(), now, spark); err != nil || !old.Bound(spark) {
			t.Errorf("bound on the new route only: %v", err)
		}
	})
}

func TestLookupsAllocateNothing(t *testing.T) {
	m := storetest.NewMemory()
	r := newReplica(t, m, nil)
	s, spark := active(t, m), sessions.SparkID(uuid.NewString())
	if err := r.Bind(t.Context(), r.lookup(s.ID), spark); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		route, ok := r.TryLookup(s.ID)
		if !ok || !route.Bound(spark) {
			t.Error("not known")
		}
		route.StreamOpened()
		route.StreamEnded()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewResolverRefuses(t *testing.T) {
	if _, err := sessions.NewResolver(sessions.ResolverConfig{}); err == nil {
		t.Error("accepted without a directory")
	}
	if _, err := sessions.NewResolver(sessions.ResolverConfig{Directory: storetest.NewMemory(), Recheck: time.Minute}); err == nil {
		t.Error("accepted a re-check that is rarer than trust lasts")
	}
}

// The cost of a lookup does not depend on how many sessions are known.
func BenchmarkTryLookup(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("sessions=%d", n), func(b *testing.B) {
			m := storetest.NewMemory()
			r := newReplica(b, m, func(c *sessions.ResolverConfig) { c.Trust, c.Grace = time.Hour, time.Hour })
			ids := make([]sessions.ID, n)
			for i := range ids {
				ids[i] = benchActive(b, m, i)
				r.lookup(ids[i])
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, ok := r.TryLookup(ids[i]); !ok {
					b.Fatal("not known")
				}
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}

func benchActive(b *testing.B, m *storetest.Memory, i int) sessions.ID {
	b.Helper()
	s := sessions.Session{ID: newID(b), Name: fmt.Sprint(i), Owner: fmt.Sprint(i), Cluster: "c", State: sessions.Active}
	m.Put(s)
	return s.ID
}
