package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

const operationID = "99112233-4455-6677-8899-aabbccddeeff"

// frame is one gRPC message.
func grpcFrame(msg []byte) []byte {
	n := len(msg)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, msg...)
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// planFrame is an ExecutePlan with a plan of size bytes.
func planFrame(size int, operation string) []byte {
	m := appendText(nil, 1, sparkUUID)
	m = protowire.AppendBytes(protowire.AppendTag(m, 3, protowire.BytesType), make([]byte, size))
	if operation != "" {
		m = appendText(m, 6, operation)
	}
	return grpcFrame(m)
}

// reattachFrame is a ReattachExecute.
func reattachFrame(operation string) []byte {
	return grpcFrame(appendText(appendText(nil, 1, sparkUUID), 3, operation))
}

// edit gives the call of a forwarded stream a piece of the body.
func (s *fakeStream) edit(p []byte, end bool) (relay.Verdict, *relay.Edits) {
	var e relay.Edits
	v := s.call.Edit(p, end, &e)
	return v, &e
}

// away is a lookup that finds the registry away until it is told otherwise.
func away(context.Context, sessions.ID) (*sessions.Route, error) {
	return nil, fmt.Errorf("redis: %w", sessions.ErrUnavailable)
}

// warming is a lookup of a session that is pending for as long.
func warming(tr *testRouter, d time.Duration) func(context.Context, sessions.ID) (*sessions.Route, error) {
	return func(ctx context.Context, _ sessions.ID) (*sessions.Route, error) {
		select {
		case <-time.After(d):
			return aliceRoute(tr.cluster), nil
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("%w: %w", sessions.ErrPending, ctx.Err())
			}
			return nil, ctx.Err()
		}
	}
}

// held starts a router that does not know the session, inside a bubble.
func held(t *testing.T, change func(*RouterConfig)) *testRouter {
	t.Helper()
	tr := newTestRouter(t, change)
	tr.registry.set(aliceSession, nil)
	return tr
}

// start routes a stream without waiting for the decision.
func (tr *testRouter) start(h *relay.Header) *fakeStream {
	s := newStream(h)
	tr.route(s)
	return s
}

func TestStreamIsHeldWhileItsSessionStarts(t *testing.T) {
	for _, method := range []string{"ExecutePlan", "Config"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := held(t, nil)
				tr.registry.lookup = warming(tr, 20*time.Second)
				began := time.Now()
				s := tr.start(sparkHead(method))
				s.never(t, "the session is pending")
				<-s.decided
				if waited := time.Since(began); s.backend == nil || waited != 20*time.Second {
					t.Errorf("after %v: backend %v, reply %+v", waited, s.backend, s.reply)
				}
				if tr.tally.held.Load() != 0 {
					synctest.Wait()
				}
				s.finish(relay.Stats{})
			})
		})
	}
}

func TestHeldForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := held(t, nil)
		tr.registry.lookup = warming(tr, time.Hour)
		began := time.Now()
		s := tr.send(sparkHead("Config"))
		if waited := time.Since(began); waited != 30*time.Second {
			t.Errorf("waited %v", waited)
		}
		info, retry := detailsOf(t, statusOf(t, s.reply))
		if info.GetReason() != "SESSION_PENDING" || retry.GetRetryDelay().AsDuration() != 2*time.Second {
			t.Errorf("reason %s, retry %v", info.GetReason(), retry)
		}
	})
}

// With the registry away a unary request is answered at once, with a RetryInfo
// that standard clients follow for ten minutes; a plan waits.
func TestRegistryAway(t *testing.T) {
	t.Run("unary", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, method := range []string{"Config", "AnalyzePlan", "ReattachExecute", "ReleaseExecute"} {
				tr := held(t, nil)
				tr.registry.lookup = away
				began := time.Now()
				s := tr.send(sparkHead(method))
				if reasonOf(t, s.reply) != "REGISTRY_UNAVAILABLE" || time.Since(began) > 300*time.Millisecond {
					t.Errorf("%s: %+v after %v", method, s.reply, time.Since(began))
				}
			}
		})
	})
	t.Run("plan goes on when it is back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr := held(t, nil)
			back := time.Now().Add(time.Minute)
			tr.registry.lookup = func(ctx context.Context, id sessions.ID) (*sessions.Route, error) {
				if time.Now().Before(back) {
					return away(ctx, id)
				}
				return aliceRoute(tr.cluster), nil
			}
			s := tr.send(sparkHead("ExecutePlan"))
			if s.backend == nil || time.Since(back) > 2*time.Second {
				t.Errorf("forwarded %v after the registry was back: %+v", time.Since(back), s.reply)
			}
			s.finish(relay.Stats{})
		})
	})
}

// The way of a plan that waited in vain, as a client from 3.5 on goes it: told
// UNAVAILABLE, it asks for the operation, is told that there is none, and sends
// the plan again.
func TestPlanThatWaitedInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := held(t, nil)
		tr.registry.lookup = away
		began := time.Now()
		s := tr.send(sparkHead("ExecutePlan"))
		if waited := time.Since(began); waited != 120*time.Second {
			t.Errorf("waited %v", waited)
		}
		if s.backend != tr.nowhere {
			t.Fatal("the plan is not read on")
		}
		body := planFrame(100_000, operationID)
		for len(body) > 1000 { // as it comes, piece by piece; none is kept
			v, e := s.edit(body[:1000], false)
			if out := e.AppendTo(nil, body[:1000]); v != relay.Wait || len(out) != 0 || e.Used() != 1000 {
				t.Fatalf("verdict %v, %d bytes go on, %d accounted for", v, len(out), e.Used())
			}
			body = body[1000:]
		}
		v, e := s.edit(body, true)
		if v != relay.Cut || reasonOf(t, e.Reply) != "REGISTRY_UNAVAILABLE" {
			t.Fatalf("verdict %v, reply %+v", v, e.Reply)
		}
		close(s.gone)
		s.finish(relay.Stats{Status: "14"})

		tr.registry.set(aliceSession, aliceRoute(tr.cluster))
		again := tr.send(sparkHead("ReattachExecute"))
		v, e = again.edit(reattachFrame(operationID), true)
		if v != relay.Cut {
			t.Fatalf("verdict %v", v)
		}
		checkSendAgain(t, e.Reply)
		again.finish(relay.Stats{Status: "13"})

		plan := tr.send(sparkHead("ExecutePlan"))
		if v, _ = plan.edit(planFrame(10, operationID), true); v != relay.Pass {
			t.Fatalf("the plan that came again: verdict %v", v)
		}
		plan.finish(relay.Stats{Status: "0"})
		once := tr.send(sparkHead("ReattachExecute"))
		if v, _ := once.edit(reattachFrame(operationID), true); v != relay.Pass {
			t.Errorf("an operation that started is denied: verdict %v", v)
		}
		once.finish(relay.Stats{Status: "0"})
	})
}

// checkSendAgain: what makes clients send a plan again. PySpark wants the details
// to be there.
func checkSendAgain(t *testing.T, reply *relay.Reply) {
	t.Helper()
	st := statusOf(t, reply)
	info, retry := detailsOf(t, st)
	if st.Code != 13 || retry != nil || info == nil {
		t.Errorf("got %v", st)
	}
	if want := refuseOperation.Message; st.Message != want {
		t.Errorf("message %q", st.Message)
	}
}

// Without its operation_id an answer of UNAVAILABLE would lead clients to ask an
// engine for an operation that it never saw.
func TestPlanWhoseRestDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := held(t, nil)
		tr.registry.lookup = away
		s := tr.send(sparkHead("ExecutePlan"))
		if v, _ := s.edit(planFrame(100_000, operationID)[:50_000], false); v != relay.Wait {
			t.Fatalf("verdict %v", v)
		}
		began := time.Now()
		<-s.decided
		if time.Since(began) != discardWithin || reasonOf(t, s.reply) != "HELD_TOO_LONG" {
			t.Errorf("after %v: %+v", time.Since(began), s.reply)
		}
		s.finish(relay.Stats{Status: "10"})
	})
}

func TestDiscardedPlans(t *testing.T) {
	for _, tc := range []struct {
		name   string
		body   []byte
		reason string
	}{
		{"without operation_id, as from 3.4", planFrame(10, ""), "REGISTRY_UNAVAILABLE"},
		{"cut short", planFrame(10, operationID)[:20], "HELD_TOO_LONG"},
		{"empty", nil, "HELD_TOO_LONG"},
		{"not protobuf", grpcFrame([]byte{0xff, 0xff}), "HELD_TOO_LONG"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			d := &givenUp{router: tr.Router, session: aliceSession, row: &refuseRegistry, late: refuseHeldTooLong.With("wait", "2m0s")}
			d.follow.Start(tr.methods[sparkService+"ExecutePlan"].Schema)
			var e relay.Edits
			if v := d.Edit(tc.body, true, &e); v != relay.Cut || reasonOf(t, e.Reply) != tc.reason {
				t.Errorf("verdict %v, reply %+v, want %s", v, e.Reply, tc.reason)
			}
		})
	}
}

func TestHeldStreamWhoseClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := held(t, nil)
		tr.registry.lookup = warming(tr, time.Hour)
		s := tr.start(sparkHead("ExecutePlan"))
		synctest.Wait()
		if tr.tally.held.Load() != 1 {
			t.Error("not counted as held")
		}
		close(s.gone)
		synctest.Wait()
		if tr.tally.held.Load() != 0 {
			t.Error("still held")
		}
	})
}

func TestHeldStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := held(t, func(c *RouterConfig) { c.MaxHeld = 1 })
		tr.registry.lookup = warming(tr, time.Second)
		first, second := tr.start(sparkHead("Config")), tr.send(sparkHead("Config"))
		if reasonOf(t, second.reply) != "TOO_MANY_WAITING" {
			t.Errorf("got %+v", second.reply)
		}
		<-first.decided
		if first.backend == nil {
			t.Errorf("the first one: %+v", first.reply)
		}
		first.finish(relay.Stats{})
	})
}

// What waits for the cluster of one person leaves places for everybody else.
func TestHoldsOfOneOwnerAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := held(t, func(c *RouterConfig) { c.MaxHeld = 200 })
		tr.registry.lookup = func(ctx context.Context, _ sessions.ID) (*sessions.Route, error) {
			<-ctx.Done()
			return nil, sessions.ErrPending
		}
		var waiting []*fakeStream
		for range 100 {
			waiting = append(waiting, tr.start(sparkHead("Config")))
		}
		if s := tr.send(sparkHead("Config")); reasonOf(t, s.reply) != "TOO_MANY_WAITING" {
			t.Errorf("got %+v", s.reply)
		}
		bob := tr.start(sparkHead("Config", "x-session-id: "+bobSession, "authorization: Bearer "+bobToken))
		bob.never(t, "another owner")
		for _, s := range append(waiting, bob) {
			<-s.decided
		}
		synctest.Wait()
		if n := len(tr.holds.of); n != 0 || tr.holds.n != 0 {
			t.Errorf("%d owners and %d streams are counted, none waits", n, tr.holds.n)
		}
	})
}

// What waits for the clusters of one organisation, of however many people, leaves places
// for the others.
func TestHoldsOfOneOrganisationAreBounded(t *testing.T) {
	tr := held(t, func(c *RouterConfig) { c.MaxHeld = 10_000 })
	person := func(org string, n int) *auth.Identity {
		return &auth.Identity{Org: org, Subject: strconv.Itoa(n)}
	}
	var waiting []*auth.Identity
	enter := func(id *auth.Identity) bool {
		refusal := tr.holds.enter(id)
		if refusal == nil {
			waiting = append(waiting, id)
		} else if refusal != &refuseHolds {
			t.Errorf("refused with %s", refusal.Reason)
		}
		return refusal == nil
	}
	for n := range 10_000 {
		enter(person("acme", n%10))
	}
	if n := len(waiting); n != 3_000 {
		t.Errorf("%d of one organisation wait", n)
	}
	if !enter(person("other", 1)) || !enter(nil) {
		t.Error("another organisation, or who is not known yet, may not wait")
	}
	tr.holds.leave(waiting[0])
	waiting = waiting[1:]
	if !enter(person("acme", 11)) || enter(person("acme", 12)) {
		t.Error("a place that is free again is not the next one's")
	}
	for _, id := range waiting {
		tr.holds.leave(id)
	}
	if n := len(tr.holds.of) + len(tr.holds.ofOrg); n != 0 || tr.holds.n != 0 {
		t.Errorf("%d owners and organisations and %d streams are counted, none waits", n, tr.holds.n)
	}
}

func TestRunEndsWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := held(t, nil)
		tr.registry.lookup = warming(tr, time.Hour)
		s := tr.start(sparkHead("Config"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := tr.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if reasonOf(t, s.reply) != "DRAINING" {
			t.Errorf("got %+v", s.reply)
		}
		late := tr.send(sparkHead("Config"))
		if reasonOf(t, late.reply) != "DRAINING" {
			t.Errorf("afterwards: %+v", late.reply)
		}
	})
}

func TestWhatTheRegistrySays(t *testing.T) {
	for _, tc := range []struct {
		err    error
		reason string
		text   string // in the message
	}{
		{sessions.ErrClosed, "SESSION_CLOSED", "closed"},
		{sessions.ErrNotFound, "SESSION_UNKNOWN", "no longer known"},
		{&sessions.FailedError{Reason: "out of memory"}, "SESSION_FAILED", "(out of memory): close it and create a new one"},
		{&sessions.ClusterError{Reason: "no answer"}, "SESSION_START_FAILED", "(no answer): run `sconce session describe"},
		{&sessions.ClusterError{Reason: "no answer", Log: "no licence"}, "SESSION_START_FAILED", "its engine said:\n  no licence"},
		{&sessions.LaunchError{Reason: "exit status 3", Log: "no\nlicence"}, "SESSION_START_FAILED", "its engine said:\n  no\n  licence"},
		{sessions.ErrFailed, "SESSION_FAILED", "(no reason is recorded): close it and create a new one"},
		{fmt.Errorf("%w: %q", sessions.ErrNoCluster, "x"), "SESSION_FAILED", "(its cluster is no longer configured): close it"},
		{errors.New("surprise"), "INTERNAL", "request id"},
	} {
		t.Run(tc.reason+" "+tc.text, func(t *testing.T) {
			for _, method := range []string{"Config", "ExecutePlan"} {
				tr := held(t, nil)
				tr.registry.lookup = func(context.Context, sessions.ID) (*sessions.Route, error) { return nil, tc.err }
				s := tr.send(sparkHead(method))
				st := statusOf(t, s.reply)
				info, retry := detailsOf(t, st)
				if info.GetReason() != tc.reason || retry != nil || st.Code == int32(codes.Unavailable) {
					t.Errorf("%s: reason %s, retry %v", method, info.GetReason(), retry)
				}
				if !strings.Contains(st.Message, tc.text) || names.MatchString(st.Message) {
					t.Errorf("%s: %q", method, st.Message)
				}
			}
		})
	}
}
