package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// issue makes a token of ann's for a session, and returns its id.
func (m *managerTest) issue(t *testing.T, id sessions.ID, r sessions.TokenRequest) string {
	t.Helper()
	_, what, err := m.IssueToken(t.Context(), ann, id, r)
	if err != nil {
		t.Fatal(err)
	}
	return what.TokenID
}

// open is the ids of the session's tokens that are not revoked, the newest first
// of each second.
func (m *managerTest) open(t *testing.T, id sessions.ID) (ids []string) {
	t.Helper()
	list, err := m.ListTokens(t.Context(), ann, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if k.RevokedAt.IsZero() {
			ids = append(ids, k.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func sorted(ids ...string) []string {
	slices.Sort(ids)
	return ids
}

func TestReplaceToken(t *testing.T) {
	m := newManager(t)
	s := m.create(t, ann, "a")
	m.issue(t, s.ID, sessions.TokenRequest{Name: "superset"})
	other := m.issue(t, s.ID, sessions.TokenRequest{Name: "notebook"})
	anew := m.issue(t, s.ID, sessions.TokenRequest{Name: "superset", Replace: true})
	if got, want := m.open(t, s.ID), sorted(other, anew); !slices.Equal(got, want) {
		t.Errorf("open tokens %v, want the new one and that of another name, %v", got, want)
	}
}

func TestRevokeTokens(t *testing.T) {
	m := newManager(t)
	s := m.create(t, ann, "a")
	first, second := m.issue(t, s.ID, sessions.TokenRequest{}), m.issue(t, s.ID, sessions.TokenRequest{})
	ended, err := m.RevokeTokens(t.Context(), ann, s.ID, []string{first}, false)
	if err != nil || len(ended) != 1 || ended[0].ID != first || ended[0].RevokedAt.IsZero() {
		t.Errorf("revoked %+v, %v; want %s", ended, err, first)
	}
	if got := m.open(t, s.ID); !slices.Equal(got, []string{second}) {
		t.Errorf("open tokens %v, want %s", got, second)
	}
	if ended, err = m.RevokeTokens(t.Context(), admin, s.ID, nil, true); err != nil || len(ended) != 1 {
		t.Errorf("an admin revokes all: %+v, %v", ended, err)
	}
	if _, err := m.RevokeTokens(t.Context(), ann, s.ID, []string{"another's"}, false); !errors.Is(err, sessions.ErrUnknownToken) {
		t.Errorf("an unknown token: %v", err)
	}
}

func TestTokenRequestIsRefused(t *testing.T) {
	m := newManager(t)
	s := m.create(t, ann, "a")
	var invalid *sessions.InvalidError
	for field, r := range map[string]sessions.TokenRequest{
		"name": {Name: "a/b"}, "replace": {Replace: true}, "lifetime": {Lifetime: 25 * time.Hour},
	} {
		if _, _, err := m.IssueToken(t.Context(), ann, s.ID, r); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, all := range []bool{true, false} {
		var ids []string
		if all {
			ids = []string{"x"}
		}
		if _, err := m.RevokeTokens(t.Context(), ann, s.ID, ids, all); !errors.As(err, &invalid) || invalid.Field != "token_ids" {
			t.Errorf("all=%v with %v: %v", all, ids, err)
		}
	}
	for range storetest.MaxTokens {
		m.issue(t, s.ID, sessions.TokenRequest{})
	}
	if token, _, err := m.IssueToken(t.Context(), ann, s.ID, sessions.TokenRequest{}); !errors.Is(err, sessions.ErrTooManyTokens) || token != "" {
		t.Errorf("one token too many: %q, %v", token, err)
	}
}

// A token that could not be recorded is not shown: nobody could revoke it.
func TestTokenIsRecordedBeforeItIsShown(t *testing.T) {
	m := newManager(t)
	s := m.create(t, ann, "a")
	m.Tokens = awayTokens{m.memory}
	if token, what, err := m.IssueToken(t.Context(), ann, s.ID, sessions.TokenRequest{}); !errors.Is(err, sessions.ErrUnavailable) || token != "" || what != nil {
		t.Errorf("with the registry away: %q, %v, %v", token, what, err)
	}
}

// awayTokens is a registry that records no token.
type awayTokens struct{ sessions.TokenStore }

func (awayTokens) AddToken(context.Context, sessions.Session, sessions.Token, time.Time) error {
	return sessions.ErrUnavailable
}

// A revocation reaches every replica at once by push, and within 2 s where the
// push is lost; the session itself goes on.
func TestRevocationReachesEveryReplica(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("push lost: %v", silent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := storetest.NewMemory()
				told := make(chan string, 10)
				listen := func(c *sessions.ResolverConfig) {
					c.OnRevoke = func(_ sessions.ID, revoked string) { told <- revoked }
				}
				one, two := newReplica(t, m, listen), newReplica(t, m, listen)
				one.run(t)
				two.run(t)
				s := active(t, m)
				for _, id := range []string{"t-1", "t-2"} {
					if err := m.AddToken(t.Context(), s, sessions.Token{ID: id, ExpiresAt: time.Now().Add(time.Hour)}, time.Now()); err != nil {
						t.Fatal(err)
					}
				}
				one.lookup(s.ID)
				two.lookup(s.ID)
				m.Silence(silent)
				if _, err := m.RevokeTokens(t.Context(), s.ID, []string{"t-2"}, time.Now()); err != nil {
					t.Fatal(err)
				}
				if silent {
					time.Sleep(2 * time.Second)
				}
				synctest.Wait()
				if len(told) != 2 || <-told != "t-2" || <-told != "t-2" {
					t.Errorf("not both replicas were told once of t-2")
				}
				for _, r := range []*replica{one, two} {
					if route, ok := r.TryLookup(s.ID); !ok || route.Session.Revoked != "t-2" {
						t.Errorf("the route says %+v, %v", route, ok)
					}
					r.wantEnds(0, nil)
				}
				// Who hears of the session only now knows it too.
				late := newReplica(t, m, listen)
				if late.lookup(s.ID).Session.Revoked != "t-2" || <-told != "t-2" {
					t.Error("a later replica does not know of it")
				}
			})
		})
	}
}

func TestIsRevoked(t *testing.T) {
	for _, c := range []struct {
		revoked, token string
		want           bool
	}{
		{"", "a", false}, {"a", "a", true}, {"ab", "a", false}, {"b a", "a", true}, {"ab ba", "a", false}, {"a b", "", false},
	} {
		if got := sessions.IsRevoked(c.revoked, c.token); got != c.want {
			t.Errorf("%q in %q: %v", c.token, c.revoked, got)
		}
	}
}

// A cluster may bound the life of tokens below what the gateway allows, and the
// life of one for which none was asked with it.
func TestTokenLifetimeOfACluster(t *testing.T) {
	m := withPolicy(t, sessions.ClusterPolicy{MaxTokenLifetime: 10 * time.Minute})
	s := m.create(t, ann, "a")
	_, what, err := m.IssueToken(t.Context(), ann, s.ID, sessions.TokenRequest{})
	if err != nil || what.Expires.Sub(what.IssuedAt) != 10*time.Minute {
		t.Errorf("issued %+v, %v", what, err)
	}
	_, _, err = m.IssueToken(t.Context(), ann, s.ID, sessions.TokenRequest{Lifetime: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "from 1s to 10m0s") {
		t.Errorf("an hour: %v", err)
	}
	m.Clusters = nil
	if _, _, err := m.IssueToken(t.Context(), ann, s.ID, sessions.TokenRequest{Lifetime: time.Hour}); err != nil {
		t.Errorf("a cluster that is gone: %v", err)
	}
}
