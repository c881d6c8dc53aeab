package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
)

// token adds a token of that name to a session, a millisecond later than the one before.
func (s *suite) token(t *testing.T, id sessions.ID, name string) sessions.Token {
	t.Helper()
	s.now = s.now.Add(time.Millisecond)
	made := sessions.Token{ID: uuid.NewString(), Name: name, CreatedAt: s.now, ExpiresAt: s.now.Add(time.Hour)}
	must(t, s.AddToken(t.Context(), s.whose(t, id), made, s.now))
	return made
}

// whose is the record of a session.
func (s *suite) whose(t *testing.T, id sessions.ID) sessions.Session {
	t.Helper()
	found, err := s.Get(t.Context(), id)
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("session %s has no record", id)
	}
	return found[0]
}

func (s *suite) revoke(t *testing.T, id sessions.ID, tokens ...string) []sessions.Token {
	t.Helper()
	ended, err := s.RevokeTokens(t.Context(), id, tokens, s.now)
	must(t, err)
	return ended
}

func wantTokens(t *testing.T, got []sessions.Token, want ...sessions.Token) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("tokens\n%+v, want\n%+v", got, want)
	}
}

// revokedIn is the ids in the session's record, sorted.
func (s *suite) revokedIn(t *testing.T, id sessions.ID) (ids []string, revision uint64) {
	t.Helper()
	found, err := s.Get(t.Context(), id)
	must(t, err)
	for _, k := range s.listed(t, id) {
		if sessions.IsRevoked(found[0].Revoked, k.ID) {
			ids = append(ids, k.ID)
		}
	}
	slices.Sort(ids)
	return ids, found[0].Revision
}

func (s *suite) listed(t *testing.T, id sessions.ID) []sessions.Token {
	t.Helper()
	list, err := s.Tokens(t.Context(), id)
	must(t, err)
	return list
}

func testTokens(t *testing.T, s *suite) {
	one := s.active(t, "ann", "a")
	wantTokens(t, s.listed(t, one.ID))
	first, second := s.token(t, one.ID, "notebook of Ann"), s.token(t, one.ID, "")
	wantTokens(t, s.listed(t, one.ID), second, first)
	other := s.active(t, "ann", "b")
	wantTokens(t, s.listed(t, other.ID))
	_, err := s.Tokens(t.Context(), s.session(t, "ann", "c").ID)
	wantError(t, err, sessions.ErrNotFound)
}

// The latest use of each token is known, until the session is closed.
func testTouchTokens(t *testing.T, s *suite) {
	one, closed := s.active(t, "ann", "a"), s.active(t, "ann", "b")
	first, second, third := s.token(t, one.ID, "x"), s.token(t, one.ID, "y"), s.token(t, closed.ID, "z")
	s.step(t, closed, sessions.Closed)
	early, late := s.now.Add(time.Second), s.now.Add(time.Minute)
	must(t, s.TouchTokens(t.Context(), []sessions.TokenUse{
		{Session: one.ID, Token: first.ID, At: late}, {Session: one.ID, Token: "no token", At: late},
		{Session: closed.ID, Token: third.ID, At: late},
		{Session: one.ID, Token: second.ID, At: early}, {Session: s.session(t, "ann", "none").ID, Token: first.ID, At: late},
	}))
	must(t, s.TouchTokens(t.Context(), []sessions.TokenUse{{Session: one.ID, Token: first.ID, At: early}}))
	first.LastUsedAt, second.LastUsedAt = late, early
	wantTokens(t, s.listed(t, one.ID), second, first)
	wantTokens(t, s.listed(t, closed.ID), third)
}

// A revocation stands in the token's record and in the session's, which grows in
// revision, so that who has read it before hears of it.
func testRevoke(t *testing.T, s *suite) {
	one := s.active(t, "ann", "a")
	first, second := s.token(t, one.ID, "x y"), s.token(t, one.ID, "")
	s.now = s.now.Add(time.Second)
	ended := first
	ended.RevokedAt = s.now
	wantTokens(t, s.revoke(t, one.ID, first.ID), ended)
	wantTokens(t, s.listed(t, one.ID), second, ended)
	ids, revision := s.revokedIn(t, one.ID)
	if !slices.Equal(ids, []string{first.ID}) || revision <= one.Revision {
		t.Errorf("the record says %v in revision %d, want %s in a later one than %d", ids, revision, first.ID, one.Revision)
	}
	// Again: nothing changes, not even the time.
	s.now = s.now.Add(time.Second)
	wantTokens(t, s.revoke(t, one.ID, first.ID))
	if _, again := s.revokedIn(t, one.ID); again != revision {
		t.Errorf("revision %d after nothing was revoked, want %d", again, revision)
	}
	// All: what is left.
	second.RevokedAt = s.now
	wantTokens(t, s.revoke(t, one.ID), second)
	if ids, _ := s.revokedIn(t, one.ID); len(ids) != 2 {
		t.Errorf("the record says %v, want both", ids)
	}
	if now := s.step(t, one, sessions.Idle); now.Revoked == "" {
		t.Error("a transition forgot what was revoked")
	}
}

func testRevokeUnknown(t *testing.T, s *suite) {
	one, other := s.active(t, "ann", "a"), s.active(t, "ann", "b")
	mine, foreign := s.token(t, one.ID, ""), s.token(t, other.ID, "")
	_, err := s.RevokeTokens(t.Context(), one.ID, []string{mine.ID, foreign.ID}, s.now)
	wantError(t, err, sessions.ErrUnknownToken)
	wantTokens(t, s.listed(t, one.ID), mine)
	wantTokens(t, s.listed(t, other.ID), foreign)
	_, err = s.RevokeTokens(t.Context(), s.session(t, "ann", "c").ID, nil, s.now)
	wantError(t, err, sessions.ErrNotFound)
}

func testTokensOfAClosedSession(t *testing.T, s *suite) {
	one := s.active(t, "ann", "a")
	made := s.token(t, one.ID, "")
	s.step(t, one, sessions.Closed)
	wantError(t, s.AddToken(t.Context(), one, made, s.now), sessions.ErrClosed)
	_, err := s.RevokeTokens(t.Context(), one.ID, nil, s.now)
	wantError(t, err, sessions.ErrClosed)
	wantTokens(t, s.listed(t, one.ID), made)
}

// Only open tokens count against the bound: revoked and expired ones make room.
func testTooManyTokens(t *testing.T, s *suite) {
	one := s.active(t, "ann", "a")
	for range MaxTokens {
		s.token(t, one.ID, "")
	}
	more := sessions.Token{ID: uuid.NewString(), CreatedAt: s.now, ExpiresAt: s.now.Add(time.Hour)}
	wantTokenLimit(t, s.AddToken(t.Context(), one, more, s.now), sessions.LimitTokensPerSession, MaxTokens)
	s.revoke(t, one.ID, s.listed(t, one.ID)[0].ID)
	must(t, s.AddToken(t.Context(), one, more, s.now))
	s.now = s.now.Add(2 * time.Hour)
	s.token(t, one.ID, "")
}

func testWatchHearsRevocations(t *testing.T, s *suite) {
	one := s.active(t, "ann", "a")
	made := s.token(t, one.ID, "")
	heard, stop := s.watch(t)
	defer stop()
	s.revoke(t, one.ID, made.ID)
	found, err := s.Get(t.Context(), one.ID)
	must(t, err)
	c := nextOf(heard, one.ID)
	for c.ID != "" && c.Revision < found[0].Revision { // of before the watch: a cluster's nodes tell each other late
		c = nextOf(heard, one.ID)
	}
	if want := (sessions.Change{ID: one.ID, State: sessions.Active, Generation: 1, Revision: found[0].Revision}); c != want {
		t.Errorf("heard %+v, want %+v", c, want)
	}
}
