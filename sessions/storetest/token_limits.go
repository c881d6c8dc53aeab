package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
)

func wantTokenLimit(t *testing.T, err error, limit string, most int) {
	t.Helper()
	wantLimitOf(t, sessions.ErrTooManyTokens, err, limit, most)
}

// holder opens sessions of an owner until it has room for n tokens, and gives each of
// them as many as it takes.
func (s *suite) holder(t *testing.T, owner string, n int) (made []sessions.Session) {
	t.Helper()
	for n > 0 {
		one := s.active(t, owner, "")
		for range min(n, MaxTokens) {
			s.token(t, one.ID, "")
			n--
		}
		made = append(made, one)
	}
	return made
}

// noToken says that neither now nor at the next try the session gets a token, and that
// none is left of the tries.
func (s *suite) noToken(t *testing.T, of sessions.Session, limit string, most int) {
	t.Helper()
	before := len(s.listed(t, of.ID))
	for range 2 {
		refused := sessions.Token{ID: uuid.NewString(), CreatedAt: s.now, ExpiresAt: s.now.Add(time.Hour)}
		wantTokenLimit(t, s.AddToken(t.Context(), of, refused, s.now), limit, most)
	}
	if got := len(s.listed(t, of.ID)); got != before {
		t.Errorf("%d tokens are listed after a refusal, want %d", got, before)
	}
}

// The tokens of all sessions of an owner count, and those of nobody else.
func testTooManyTokensOfAnOwner(t *testing.T, s *suite) {
	made := s.holder(t, "ann", MaxOwnedTokens)
	other := s.active(t, "ann", "")
	s.noToken(t, other, sessions.LimitTokensPerOwner, MaxOwnedTokens)
	s.noToken(t, made[0], sessions.LimitTokensPerOwner, MaxOwnedTokens)
	s.holder(t, "bob", 1)
	s.org = uuid.NewString()
	s.holder(t, "ann", 1)
}

// A token that the organisation has no room for does not count for its owner, and one
// that its session has no room for counts nowhere.
func testTooManyTokensInOneOrg(t *testing.T, s *suite) {
	ann := s.holder(t, "ann", MaxOwnedTokens)
	bob := s.holder(t, "bob", MaxOrgTokens-MaxOwnedTokens)
	for range MaxOwnedTokens {
		s.noToken(t, bob[0], sessions.LimitTokensPerOrg, MaxOrgTokens)
	}
	s.revoke(t, ann[0].ID, s.listed(t, ann[0].ID)[0].ID)
	s.token(t, bob[0].ID, "")
	s.noToken(t, s.active(t, "cid", ""), sessions.LimitTokensPerOrg, MaxOrgTokens)

	s.revoke(t, ann[0].ID)
	for range MaxOrgTokens {
		s.noToken(t, bob[0], sessions.LimitTokensPerSession, MaxTokens)
	}
	s.holder(t, "bob", MaxTokens-1)
}

// A token counts until it is revoked, has expired or its session is closed, and is
// counted out once.
func testTokenCountEnds(t *testing.T, s *suite) {
	made := s.holder(t, "ann", MaxOwnedTokens)
	last := made[len(made)-1]
	full := func() {
		t.Helper()
		s.noToken(t, last, sessions.LimitTokensPerOwner, MaxOwnedTokens)
	}
	full()
	one := s.listed(t, made[0].ID)[0].ID
	for range 2 {
		s.revoke(t, made[0].ID, one)
	}
	s.token(t, last.ID, "")
	full()

	for range 2 {
		_, err := s.Transition(t.Context(), made[0].ID, sessions.CloseAt(s.now, ""))
		must(t, err)
	}
	s.holder(t, "ann", MaxTokens-1) // one of its three was revoked
	full()

	s.revoke(t, made[1].ID)
	s.step(t, made[1], sessions.Closed)
	s.holder(t, "ann", MaxTokens)
	full()

	s.now = s.now.Add(time.Hour + time.Second)
	s.holder(t, "ann", MaxOwnedTokens)
	full()
}

// However many come at once, no more tokens are issued than may be.
func testTokenLimitRace(t *testing.T, s *suite) {
	raceTo(t, limited{sessions.LimitTokensPerOwner, MaxOwnedTokens}, limited{sessions.LimitTokensPerOrg, MaxOrgTokens - MaxOwnedTokens}, 2*MaxOrgTokens,
		func(owner string) func() error {
			of := s.active(t, owner, "")
			made := sessions.Token{ID: uuid.NewString(), CreatedAt: s.now, ExpiresAt: s.now.Add(time.Hour)}
			return func() error { return s.AddToken(context.Background(), of, made, made.CreatedAt) }
		})
}
