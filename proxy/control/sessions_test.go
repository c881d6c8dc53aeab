package control_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/sessions"
)

// step moves a session on.
func (a *api) step(t *testing.T, id string, from, to sessions.State) {
	t.Helper()
	if _, err := a.memory.Transition(t.Context(), sessions.ID(id), sessions.Transition{From: from, Generation: 1, To: to, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

// Whether a session that failed is woken by its next request, its cluster decides: it is
// told wherever sessions are shown.
func TestSessionsSayWhetherTheyAreWakeable(t *testing.T) {
	a := startBare(t)
	ann := a.as(t, "ann", "acme", false)
	made, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{})
	if err != nil || made.GetSession().GetWakeable() {
		t.Fatalf("made %v, %v", made, err)
	}
	id := made.GetSession().GetId()
	want := func(what string, wakeable bool) {
		t.Helper()
		seen, err := a.DescribeSession(ann, &sconcev1.DescribeSessionRequest{SessionId: id})
		if err != nil || seen.GetSession().GetWakeable() != wakeable {
			t.Errorf("%s: described %v, %v", what, seen, err)
		}
		list, err := a.ListSessions(ann, &sconcev1.ListSessionsRequest{})
		if err != nil || len(list.GetSessions()) != 1 || list.GetSessions()[0].GetWakeable() != wakeable {
			t.Errorf("%s: listed %v, %v", what, list, err)
		}
	}
	a.step(t, id, sessions.Active, sessions.Failed)
	want("its cluster is an address", false)
	a.service.Wakeable = func(s sessions.Session) bool { return s.State == sessions.Failed && string(s.ID) == id }
	want("its cluster starts engines anew", true)
	a.service.Wakeable = nil
	want("nobody knows", false)
}

// What is closed will not be closed.
func TestClosedSessionsDoNotExpire(t *testing.T) {
	a := startBare(t)
	ann := a.as(t, "ann", "acme", false)
	made, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{MaxAge: durationpb.New(time.Hour)})
	if err != nil || made.GetSession().GetExpireTime() == nil {
		t.Fatalf("made %v, %v", made, err)
	}
	id := made.GetSession().GetId()
	closed, err := a.CloseSession(ann, &sconcev1.CloseSessionRequest{SessionId: id})
	if err != nil || closed.GetSession().GetExpireTime() != nil || closed.GetSession().GetCloseTime() == nil {
		t.Errorf("closed %v, %v", closed, err)
	}
	seen, err := a.DescribeSession(ann, &sconcev1.DescribeSessionRequest{SessionId: id})
	if err != nil || seen.GetSession().GetExpireTime() != nil || seen.GetSession().GetMaxAge().AsDuration() != time.Hour {
		t.Errorf("described %v, %v", seen, err)
	}
}
