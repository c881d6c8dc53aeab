package proxy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/protobuf/encoding/protowire"
)

// freshSpark is a Spark session that is bound to nothing yet.
const freshSpark = "ffffffff-4455-6677-8899-aabbccddeeff"

// freshPlan is an ExecutePlan in it.
func freshPlan(size int, operation string) []byte {
	m := protowire.AppendBytes(protowire.AppendTag(appendText(nil, 1, freshSpark), 3, protowire.BytesType), make([]byte, size))
	if operation != "" {
		m = appendText(m, 6, operation)
	}
	return grpcFrame(m)
}

// unbound sends an ExecutePlan whose Spark session cannot be bound, by err, and gives
// its call this much of it. It returns when what is not read yet may be given again.
func (tr *testRouter) unbound(t *testing.T, err error, body []byte, end bool) (s *fakeStream, rest []byte) {
	t.Helper()
	tr.registry.prepare = func(context.Context, sessions.SparkID) error {
		time.Sleep(time.Second) // else it may be done before the stream is held
		return err
	}
	s = tr.send(sparkHead("ExecutePlan"))
	v, e := s.edit(body, end)
	if v != relay.Hold {
		t.Fatalf("verdict %v, want Hold", v)
	}
	<-s.decided
	return s, body[e.Used():]
}

// A plan whose session_id can be bound once the registry is back goes on then.
func TestPlanWaitsForItsBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTestRouter(t, nil)
		began := time.Now()
		tr.registry.prepare = func(context.Context, sessions.SparkID) error {
			if time.Since(began) < time.Minute {
				return sessions.ErrUnavailable
			}
			return nil
		}
		s := tr.send(sparkHead("ExecutePlan"))
		body := freshPlan(10, operationID)
		_, e := s.edit(body, true)
		<-s.decided
		if waited := time.Since(began); waited < time.Minute || waited > time.Minute+2250*time.Millisecond {
			t.Errorf("waited %v", waited)
		}
		if v, _ := s.edit(body[e.Used():], true); v != relay.Pass {
			t.Errorf("verdict %v", v)
		}
		s.finish(relay.Stats{})
	})
}

// One that waited in vain is answered UNAVAILABLE when its operation is known, and its
// client, which asks for that, is told to send it again. Until then it is read, and
// nothing of it is kept.
func TestPlanThatIsNeverBound(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		waited time.Duration
		reason string
	}{
		{"no registry", sessions.ErrUnavailable, 120 * time.Second, "REGISTRY_UNAVAILABLE"},
		{"no engine to prepare", sessions.ErrEngineAway, time.Second, "ENGINE_UNREACHABLE"},
		{"another prepares it for too long", context.DeadlineExceeded, time.Second, "SESSION_PENDING"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTestRouter(t, nil)
				began, body := time.Now(), freshPlan(100_000, operationID)
				s, rest := tr.unbound(t, tc.err, body[:1000], false)
				if waited := time.Since(began); waited < tc.waited || waited > tc.waited+2*time.Second {
					t.Errorf("waited %v", waited)
				}
				for rest = append(rest, body[1000:]...); len(rest) > 1000; rest = rest[1000:] {
					v, e := s.edit(rest[:1000], false)
					if out := e.AppendTo(nil, rest[:1000]); v != relay.Wait || len(out) != 0 || e.Used() != 1000 {
						t.Fatalf("verdict %v, %d bytes go on, %d accounted for", v, len(out), e.Used())
					}
				}
				v, e := s.edit(rest, true)
				if v != relay.Cut || reasonOf(t, e.Reply) != tc.reason {
					t.Fatalf("verdict %v, reply %+v", v, e.Reply)
				}
				if _, retry := detailsOf(t, statusOf(t, e.Reply)); retry == nil {
					t.Error("no RetryInfo")
				}
				s.finish(relay.Stats{Status: "14"})
				tr.registry.prepare = nil
				if !tr.reattachIsDenied(t) {
					t.Error("the client is not told to send the plan again")
				}
				time.Sleep(2 * discardWithin)
				if s.reply != nil {
					t.Errorf("a stream that is over is answered again: %+v", s.reply)
				}
			})
		})
	}
}

// What cannot be told apart later is not answered UNAVAILABLE.
func TestPlanThatIsNeverBoundNorWhole(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		reason string
	}{
		"no registry": {sessions.ErrUnavailable, "HELD_TOO_LONG"},
		"no engine":   {sessions.ErrEngineAway, "ENGINE_NOT_REACHED"},
	} {
		t.Run(name+", the rest does not come", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTestRouter(t, nil)
				s, rest := tr.unbound(t, tc.err, freshPlan(1000, operationID)[:500], false)
				if v, _ := s.edit(rest, false); v != relay.Wait {
					t.Fatalf("verdict %v", v)
				}
				began := time.Now()
				<-s.decided
				if time.Since(began) != discardWithin || reasonOf(t, s.reply) != tc.reason {
					t.Errorf("after %v: %+v", time.Since(began), s.reply)
				}
				s.finish(relay.Stats{})
			})
		})
		t.Run(name+", it ends short", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTestRouter(t, nil)
				s, rest := tr.unbound(t, tc.err, freshPlan(1000, operationID)[:500], true)
				if v, e := s.edit(rest, true); v != relay.Cut || reasonOf(t, e.Reply) != tc.reason {
					t.Errorf("verdict %v, %+v", v, e.Reply)
				}
				s.finish(relay.Stats{})
			})
		})
	}
	t.Run("without operation_id, as from 3.4", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			s, rest := tr.unbound(t, sessions.ErrUnavailable, freshPlan(10, ""), true)
			if v, e := s.edit(rest, true); v != relay.Cut || reasonOf(t, e.Reply) != "REGISTRY_UNAVAILABLE" {
				t.Errorf("verdict %v, %+v", v, e.Reply)
			}
			s.finish(relay.Stats{})
		})
	})
}

// Only the replica that refused a plan says that it never started, and only until the
// plan comes again. What any other is asked for goes to the engine, which alone knows: it
// may have had the plan by way of a third.
func TestOnlyWhoRefusedAPlanDeniesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, other := newTestRouter(t, nil), newTestRouter(t, nil)
		s, rest := tr.unbound(t, sessions.ErrUnavailable, freshPlan(10, operationID), true)
		if v, _ := s.edit(rest, true); v != relay.Cut {
			t.Fatalf("verdict %v", v)
		}
		s.finish(relay.Stats{Status: "14"})
		if other.reattachIsDenied(t) {
			t.Error("a replica denies what it knows nothing of")
		}
		tr.registry.prepare = nil
		again, body := tr.send(sparkHead("ExecutePlan")), freshPlan(10, operationID)
		_, e := again.edit(body, true)
		<-again.decided
		if v, _ := again.edit(body[e.Used():], true); v != relay.Pass {
			t.Fatalf("verdict %v", v)
		}
		again.finish(relay.Stats{})
		if tr.reattachIsDenied(t) {
			t.Error("a plan that has come again is denied: it would run twice")
		}
	})
}
