package proxy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/protobuf/proto"
)

// idleRouter is a router whose session is idle, and fails the test when it is woken.
func idleRouter(t *testing.T, change func(*sessions.Session)) *testRouter {
	t.Helper()
	tr := held(t, nil)
	tr.registry.record = func(s sessions.Session) (sessions.Session, error) {
		s.State = sessions.Idle
		change(&s)
		return s, nil
	}
	tr.registry.lookup = func(context.Context, sessions.ID) (*sessions.Route, error) {
		t.Error("the session was woken")
		return nil, errors.New("woken")
	}
	return tr
}

// Only who may use a session wakes it.
func TestStrangersWakeNothing(t *testing.T) {
	for name, change := range map[string]func(*sessions.Session){
		"another's":     func(s *sessions.Session) { s.Owner = "mallory" },
		"another org's": func(s *sessions.Session) { s.Org = "other" },
		"revoked token": func(s *sessions.Session) { s.Revoked = "j0 j1" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := idleRouter(t, change).send(sparkHead("AnalyzePlan"))
				if s.reply == nil {
					t.Error("no refusal")
				}
			})
		})
	}
}

// What only ends something is answered for an idle session as an engine would that
// has nothing to end, and wakes nothing.
func TestIdleSessionAnswersWithoutWaking(t *testing.T) {
	type named interface {
		proto.Message
		GetSessionId() string
	}
	for method, answer := range map[string]named{
		"ReleaseSession": &connect.ReleaseSessionResponse{},
		"ReleaseExecute": &connect.ReleaseExecuteResponse{},
		"Interrupt":      &connect.InterruptResponse{},
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := idleRouter(t, func(*sessions.Session) {}).send(sparkHead(method))
				defer close(s.gone)
				whole := reattachFrame(operationID)
				if method == "Interrupt" {
					whole = grpcFrame(appendText(appendText(nil, 1, sparkUUID), 6, operationID))
				}
				for _, b := range whole[:len(whole)-1] {
					if v, e := s.edit([]byte{b}, false); v != relay.Wait {
						t.Fatalf("verdict %v, reply %+v", v, e.Reply)
					}
				}
				v, e := s.edit(whole[len(whole)-1:], true)
				if v != relay.Cut || e.Reply == nil || len(e.Reply.Body) < relay.PrefixLen {
					t.Fatalf("verdict %v, reply %+v", v, e.Reply)
				}
				if got := fmt.Sprint(e.Reply.Trailer); got != fmt.Sprint(grpcOKTrailer) {
					t.Errorf("trailer %s", got)
				}
				if err := proto.Unmarshal(e.Reply.Body[relay.PrefixLen:], answer); err != nil || answer.GetSessionId() != sparkUUID {
					t.Errorf("answered %v, %v", answer, err)
				}
				if r, ok := answer.(*connect.ReleaseExecuteResponse); ok && r.GetOperationId() != operationID {
					t.Errorf("answered for operation %q", r.GetOperationId())
				}
				s.finish(relay.Stats{Status: "0"})
			})
		})
	}
}

// A flood of what only ends something is refused for an idle session too.
func TestIdleSessionHasARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := idleRouter(t, func(*sessions.Session) {})
		tr.meters.quotas = quotaOf("session", Quota{Requests: 4})
		release := func() *fakeStream {
			s := tr.send(sparkHead("ReleaseSession"))
			if s.reply == nil {
				s.edit(grpcFrame(appendText(nil, 1, sparkUUID)), true)
				s.finish(relay.Stats{Status: "0"})
			}
			close(s.gone)
			return s
		}
		for n := range 10_000 {
			if s := release(); s.reply != nil {
				t.Fatalf("number %d was refused", n)
			}
		}
		if reason, limit, retry := overLimit(t, release()); reason != "RATE_LIMITED" || limit != "limits.session_requests" || retry == nil {
			t.Errorf("read %q, limit %q, retry %v", reason, limit, retry)
		}
		if n := tr.meters.process.open.Load(); n != 0 {
			t.Errorf("%d streams are counted, none is open", n)
		}
	})
}

func TestIdleSessionRefusesBadMessages(t *testing.T) {
	for name, message := range map[string][]byte{
		"none":         nil,
		"half":         reattachFrame(operationID)[:20],
		"no session":   grpcFrame(nil),
		"upper case":   grpcFrame(appendText(nil, 1, "00112233-4455-6677-8899-AABBCCDDEEFF")),
		"not protobuf": grpcFrame([]byte{0xff, 0xff, 0xff}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := idleRouter(t, func(*sessions.Session) {}).send(sparkHead("ReleaseSession"))
				defer close(s.gone)
				if v, e := s.edit(message, true); v != relay.Cut || statusOf(t, e.Reply).GetCode() == 0 {
					t.Errorf("verdict %v, reply %+v", v, e.Reply)
				}
				s.finish(relay.Stats{})
			})
		})
	}
}
