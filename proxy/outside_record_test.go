package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

// ownedByAlice is an id as the registry makes them, and its route once it is active.
func ownedByAlice(t *testing.T, c *sessions.Cluster) (sessions.ID, *sessions.Route) {
	t.Helper()
	id, err := sessions.NewID(time.Now(), strings.NewReader(strings.Repeat("a", 64)))
	if err != nil {
		t.Fatal(err)
	}
	s := aliceRoute(c).Session
	s.ID = id
	return id, sessions.NewRoute(s, c, sparkUUID)
}

// outsideAs makes a token of an outside issuer that speaks for a subject of acme.
func outsideAs(tr *testRouter, subject string) string {
	token := "outside-" + subject
	tr.tokens.known[token] = &auth.Identity{Kind: auth.KindOutside, Subject: subject, Org: "acme"}
	return "authorization: Bearer " + token
}

// What a token of an outside issuer reads of a session that no cache knows is, for
// its owner, what became of it; for anybody else it is the same, to the byte,
// whatever became of it, and nothing is woken.
func TestOutsideTokensAndRecords(t *testing.T) {
	replies := map[string]string{} // what the stranger reads, by what the session is
	for name, c := range map[string]struct {
		state  sessions.State
		err    error
		reason string // what the owner reads; "" = it is woken
	}{
		"active":      {state: sessions.Active},
		"pending":     {state: sessions.Pending},
		"idle":        {state: sessions.Idle},
		"closed":      {sessions.Closed, sessions.ErrClosed, "SESSION_CLOSED"},
		"failed":      {sessions.Failed, &sessions.FailedError{Session: aliceSession, Reason: "out of memory"}, "SESSION_FAILED"},
		"no cluster":  {sessions.Active, sessions.ErrNoCluster, "SESSION_FAILED"},
		"not there":   {"", sessions.ErrNotFound, "SESSION_DENIED"},
		"not like it": {"", nil, "SESSION_DENIED"},
	} {
		for _, subject := range []string{"alice", "mallory"} {
			t.Run(name+" "+subject, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tr, reads, woken, wantReads := held(t, nil), 0, 0, 1
					session, route := ownedByAlice(t, tr.cluster)
					tr.registry.record = func(s sessions.Session) (sessions.Session, error) {
						reads++
						if errors.Is(c.err, sessions.ErrNotFound) {
							return sessions.Session{}, c.err
						}
						s.State = c.state
						return s, c.err
					}
					tr.registry.lookup = func(context.Context, sessions.ID) (*sessions.Route, error) {
						woken++
						return route, nil
					}
					if name == "not like it" {
						session, wantReads = "../../x", 0
					}
					s := tr.send(sparkHead("AnalyzePlan", "x-session-id: "+string(session), outsideAs(tr, subject)))
					defer s.finish(relay.Stats{Status: "0"})
					if reads != wantReads {
						t.Errorf("the record was read %d times, want %d", reads, wantReads)
					}
					if subject == "alice" && c.reason == "" {
						if s.reply != nil || woken != 1 {
							t.Errorf("the owner: reply %v, woken %d times", s.reply, woken)
						}
						return
					}
					if woken != 0 {
						t.Error("it was woken")
					}
					if s.reply == nil {
						t.Fatal("no refusal")
					}
					want := c.reason
					if subject != "alice" {
						want, replies[name] = "SESSION_DENIED", fmt.Sprintf("%+v", *s.reply)
					}
					if info, _ := detailsOf(t, statusOf(t, s.reply)); info.GetReason() != want {
						t.Errorf("reason %s, want %s", info.GetReason(), want)
					}
				})
			})
		}
	}
	for name, reply := range replies {
		if reply != replies["idle"] {
			t.Errorf("a stranger reads of a session that is %s\n%s\nand of an idle one\n%s", name, reply, replies["idle"])
		}
	}
}

// The registry away is no denial, and the owner of a session that is known within
// its grace goes on.
func TestOutsideTokensWhileTheRegistryIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := held(t, nil)
		session, route := ownedByAlice(t, tr.cluster)
		head := func() *relay.Header {
			return sparkHead("AnalyzePlan", "x-session-id: "+string(session), outsideAs(tr, "alice"))
		}
		tr.registry.record = func(sessions.Session) (sessions.Session, error) {
			return sessions.Session{}, sessions.ErrUnavailable
		}
		st := statusOf(t, tr.send(head()).reply)
		if info, _ := detailsOf(t, st); st.Code != int32(codes.Unavailable) || info.GetReason() != "REGISTRY_UNAVAILABLE" {
			t.Errorf("code %d, reason %s", st.Code, info.GetReason())
		}
		tr.registry.record = nil // the Resolver falls back to what it knew
		tr.registry.lookup = func(context.Context, sessions.ID) (*sessions.Route, error) { return route, nil }
		s := tr.send(head())
		defer s.finish(relay.Stats{Status: "0"})
		if s.reply != nil {
			t.Errorf("refused: %+v", s.reply)
		}
	})
}
