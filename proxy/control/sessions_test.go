package control_test

import (
	"testing"
	"time"

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
