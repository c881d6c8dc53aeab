package sessions_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

func TestCloseIsHeardAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		one, two := newReplica(t, m, nil), newReplica(t, m, nil)
		one.run(t)
		two.run(t)
		s := active(t, m)
		one.lookup(s.ID)
		two.lookup(s.ID)
		step(t, m, s, sessions.Closed)
		for _, r := range []*replica{one, two} {
			r.wantEnds(1, sessions.ErrClosed)
			r.wantTry(s.ID, false)
		}
		reads := m.Gets()
		one.wantLookup(s.ID, sessions.ErrClosed)
		if m.Gets() != reads {
			t.Error("closed is final, yet the registry was asked again")
		}
		time.Sleep(5 * time.Second)
		one.wantEnds(1, sessions.ErrClosed)
	})
}

// A push message that is lost costs 2 seconds at most, for a session that was
// used a moment ago as for one whose stream has been open for an hour.
func TestCloseIsFoundWithoutPush(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  time.Duration
		streams bool
	}{
		{"used just now", 0, false},
		{"used 20 seconds ago", 20 * time.Second, false},
		{"a stream open for an hour", time.Hour, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := storetest.NewMemory()
				r := newReplica(t, m, nil)
				r.run(t)
				s := active(t, m)
				route := r.lookup(s.ID)
				if c.streams {
					route.StreamOpened()
				}
				time.Sleep(c.before)
				m.Silence(true)
				step(t, m, s, sessions.Closed)
				r.wantEnds(0, nil)
				time.Sleep(2 * time.Second)
				r.wantEnds(1, sessions.ErrClosed)
				r.wantTry(s.ID, false)
			})
		})
	}
}

// Who hears of a close so late that others may have told the engine before says so: what
// it let through meanwhile has to be told of again. Who hears in time does not.
func TestCloseThatIsHeardLate(t *testing.T) {
	for _, c := range []struct {
		name       string
		cut        time.Duration // the registry does not answer for so long, and says nothing
		late, seen bool
	}{
		{"at once", 0, false, true},
		{"within Trust", 1900 * time.Millisecond, false, true},
		{"cut off for longer than Trust", 2100 * time.Millisecond, true, true},
		{"cut off for long", 20 * time.Second, true, true},
		{"of a session that was never here", 20 * time.Second, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := storetest.NewMemory()
				s := active(t, m)
				var late []sessions.Session
				var r *replica
				r = newReplica(t, m, func(conf *sessions.ResolverConfig) {
					conf.OnLate = func(s sessions.Session) {
						r.wantEnds(1, sessions.ErrClosed) // the streams first
						late = append(late, s)
					}
				})
				r.run(t)
				if c.seen {
					r.lookup(s.ID).StreamOpened()
				}
				gate := make(chan struct{})
				m.Gate(gate)
				m.Silence(true)
				time.Sleep(c.cut)
				m.Silence(false)
				closed := step(t, m, s, sessions.Closed)
				synctest.Wait()
				m.Gate(nil)
				close(gate)
				time.Sleep(3 * time.Second)
				r.wantEnds(1, sessions.ErrClosed)
				if len(late) > 1 || (len(late) == 1) != c.late {
					t.Fatalf("late were %+v", late)
				}
				if c.late && (late[0].ID != s.ID || late[0].State != sessions.Closed || late[0].Cluster != closed.Cluster || late[0].Owner != closed.Owner) {
					t.Errorf("late was %+v, want %+v", late[0], closed)
				}
			})
		})
	}
}

func TestFailedSessionEndsItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		s := active(t, m)
		r.lookup(s.ID)
		s = step(t, m, s, sessions.Failed)
		synctest.Wait()
		r.wantEnds(1, sessions.ErrFailed)
		r.wantLookup(s.ID, sessions.ErrFailed)
		step(t, m, s, sessions.Closed) // there are no streams left to end
		r.wantEnds(1, sessions.ErrFailed)
	})
}

// Who holds streams of a session without having told the resolver hears too.
func TestCloseOfAnUnknownSessionIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		step(t, m, active(t, m), sessions.Closed)
		r.wantEnds(1, sessions.ErrClosed)
	})
}

func TestRouteStaysWhileNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		s := active(t, m)
		route := r.lookup(s.ID)
		time.Sleep(10 * time.Second)
		if m.Gets() < 10 || r.lookup(s.ID) != route {
			t.Errorf("after %d reads of one record there is a new route", m.Gets())
		}
	})
}

// A close that happens while nobody listens is found, and the next one is heard.
func TestSubscriptionIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		first, second := active(t, m), active(t, m)
		r.lookup(first.ID)
		r.lookup(second.ID)
		m.Disconnect()
		step(t, m, first, sessions.Closed)
		time.Sleep(time.Second)
		r.wantEnds(1, sessions.ErrClosed)
		step(t, m, second, sessions.Closed)
		r.wantEnds(2, sessions.ErrClosed)
	})
}

func TestRegistryAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		known, unknown := active(t, m), active(t, m)
		r.lookup(known.ID)
		time.Sleep(10 * time.Second)
		m.Fail(sessions.ErrUnavailable)

		began := time.Now()
		for time.Since(began) < 29*time.Second {
			r.lookup(known.ID)
			r.wantLookup(unknown.ID, sessions.ErrUnavailable)
			time.Sleep(100 * time.Millisecond)
		}
		r.wantTry(known.ID, true)
		time.Sleep(3 * time.Second)
		r.wantTry(known.ID, false)
		r.wantLookup(known.ID, sessions.ErrUnavailable)
		r.wantEnds(0, nil)

		m.Fail(nil)
		time.Sleep(2 * time.Second)
		r.lookup(known.ID)
		r.lookup(unknown.ID)
	})
}

// shards is a registry of which a part may be away.
type shards struct {
	*storetest.Memory
	mu   sync.Mutex
	away map[sessions.ID]bool
}

func (s *shards) lose(ids ...sessions.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = map[sessions.ID]bool{}
	for _, id := range ids {
		s.away[id] = true
	}
}

func (s *shards) Get(ctx context.Context, ids ...sessions.ID) ([]sessions.Session, error) {
	s.mu.Lock()
	there := slices.DeleteFunc(slices.Clone(ids), func(id sessions.ID) bool { return s.away[id] })
	s.mu.Unlock()
	found, err := s.Memory.Get(ctx, there...)
	if err == nil && len(there) < len(ids) {
		err = sessions.ErrUnavailable
	}
	return found, err
}

// A part of the registry is away: the sessions there go on for the grace, and the others
// as if nothing were.
func TestPartOfTheRegistryIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &shards{Memory: storetest.NewMemory()}
		r := newReplica(t, m.Memory, func(c *sessions.ResolverConfig) { c.Directory = m })
		r.run(t)
		there, closed := active(t, m.Memory), active(t, m.Memory)
		var away []sessions.ID
		for i := range 600 { // more than two batches
			s := active(t, m.Memory)
			r.lookup(s.ID).StreamOpened()
			if i%2 == 0 {
				away = append(away, s.ID)
			}
		}
		r.lookup(there.ID).StreamOpened()
		r.lookup(closed.ID).StreamOpened()
		time.Sleep(time.Second)
		m.lose(away...)
		m.Silence(true)
		step(t, m.Memory, closed, sessions.Closed)
		began := time.Now()
		for time.Since(began) < 29*time.Second {
			if since := time.Since(began); since > 2*time.Second {
				r.wantLookup(closed.ID, sessions.ErrClosed)
				r.wantTry(away[7], true)
			}
			r.lookup(there.ID)
			r.lookup(away[7])
			time.Sleep(100 * time.Millisecond)
		}
		r.lookup(active(t, m.Memory).ID)
		time.Sleep(3 * time.Second)
		r.wantTry(there.ID, true)
		r.wantTry(away[7], false)
		r.wantLookup(away[7], sessions.ErrUnavailable)
		m.lose()
		time.Sleep(2 * time.Second)
		r.wantTry(away[7], true)
		r.wantEnds(1, sessions.ErrClosed)
	})
}

// While the registry hangs, requests do not gather behind it.
func TestRegistryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		known := active(t, m)
		r.lookup(known.ID)
		m.Gate(make(chan struct{}))
		time.Sleep(5 * time.Second) // both re-checks have timed out
		began, reads := time.Now(), m.Gets()
		for range 200 {
			r.lookup(known.ID)
			r.wantLookup(newID(t), sessions.ErrUnavailable)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("400 requests took %s", took)
		}
		if n := m.Gets() - reads; n > 3 {
			t.Errorf("%d of them asked the registry", n)
		}
	})
}

// slow answers, but only just in time.
type slow struct{ *storetest.Memory }

func (s slow) answer(ctx context.Context) error {
	select {
	case <-time.After(450 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return sessions.ErrUnavailable
	}
}

func (s slow) Get(ctx context.Context, ids ...sessions.ID) ([]sessions.Session, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	return s.Memory.Get(ctx, ids...)
}

func (s slow) Bound(ctx context.Context, id sessions.ID) ([]sessions.SparkID, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	return s.Memory.Bound(ctx, id)
}

// Every answer of a slow registry may take its time, not all of them together.
func TestSlowRegistryAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, func(c *sessions.ResolverConfig) { c.Directory = slow{m} })
		r.run(t)
		r.lookup(active(t, m).ID)
	})
}

// Nobody used it, and the registry came back before anybody asks.
func TestRegistryComesBackUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		s := active(t, m)
		m.Fail(sessions.ErrUnavailable)
		for range 3 {
			r.wantLookup(s.ID, sessions.ErrUnavailable)
			time.Sleep(time.Second)
		}
		m.Fail(nil)
		r.lookup(s.ID)
	})
}

// A record that is gone is lost, not closed: closing leaves a record behind.
func TestRecordLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		s := active(t, m)
		r.lookup(s.ID)
		m.Forget(s.ID)
		time.Sleep(20 * time.Second)
		r.lookup(s.ID)
		time.Sleep(20 * time.Second)
		r.wantLookup(s.ID, sessions.ErrNotFound)
		r.wantEnds(0, nil)
	})
}

func TestUnusedSessionsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		idle, busy, used := r.lookup(active(t, m).ID), r.lookup(active(t, m).ID), r.lookup(active(t, m).ID)
		busy.StreamOpened()
		for range 120 {
			time.Sleep(time.Second)
			r.wantTry(used.Session.ID, true)
		}
		r.wantTry(idle.Session.ID, false)
		r.wantTry(busy.Session.ID, true)
		if r.Known() != 2 {
			t.Errorf("%d sessions in the cache, want 2", r.Known())
		}
		busy.StreamEnded()
		time.Sleep(time.Minute)
		if r.Known() != 0 {
			t.Errorf("%d sessions in the cache, want none", r.Known())
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, func(c *sessions.ResolverConfig) { c.MaxKnown = 10 })
		busy := r.lookup(active(t, m).ID)
		busy.StreamOpened()
		for range 100 {
			r.lookup(active(t, m).ID)
		}
		if r.Known() != 10 {
			t.Errorf("%d sessions in the cache", r.Known())
		}
		r.wantTry(busy.Session.ID, true)
	})
}

// However many sessions are in use, a re-check reads no more than it may.
func TestRecheckIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, func(c *sessions.ResolverConfig) { c.MaxRecheck = 256 })
		for range 1000 {
			r.lookup(active(t, m).ID)
		}
		reads := m.Gets()
		r.run(t)                       // reads all of them once
		time.Sleep(10*time.Second + 1) // then 256, that is one batch, each second
		if n := m.Gets() - reads; n > 4+10 {
			t.Errorf("%d batches were read", n)
		}
	})
}

func TestReportFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		r := newReplica(t, m, nil)
		r.run(t)
		s := active(t, m)
		r.lookup(s.ID)
		m.Silence(true)
		s = step(t, m, s, sessions.Failed)
		r.ReportFailure(s.ID, 0) // of an older generation
		synctest.Wait()
		r.wantEnds(0, nil)
		r.ReportFailure(s.ID, s.Generation)
		synctest.Wait()
		r.wantEnds(1, sessions.ErrFailed)
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, storetest.NewMemory(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}
