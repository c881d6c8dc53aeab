package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// tokenRig is a registry in which tokens are issued by its own clock.
type tokenRig struct {
	*redisstore.Store
	server *miniredis.Miniredis
	now    time.Time
}

func newTokenRig(t *testing.T) *tokenRig {
	t.Helper()
	r := &tokenRig{server: miniredis.RunT(t), now: time.Now().Truncate(time.Second)}
	r.Store = open(t, redisstore.Config{Addresses: []string{r.server.Addr()}, Now: func() time.Time { return r.now }})
	return r
}

// session makes one of the owner's that has n tokens, the first of which is returned.
func (r *tokenRig) session(t *testing.T, owner string, n int) (s sessions.Session, first sessions.Token) {
	t.Helper()
	s = newSession(t, r.now, "")
	s.Owner = owner
	s = create(t, r.Store, s, "")
	for i := range n {
		made, err := r.issue(t, s)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = made
		}
	}
	return s, first
}

func (r *tokenRig) issue(t *testing.T, s sessions.Session) (sessions.Token, error) {
	t.Helper()
	made := sessions.Token{ID: uuid.NewString(), CreatedAt: r.now, ExpiresAt: r.now.Add(time.Hour)}
	return made, r.AddToken(t.Context(), s, made, r.now)
}

// counted are the tokens that count for somebody, all sets together.
func (r *tokenRig) counted(t *testing.T) (n int) {
	t.Helper()
	for _, key := range r.server.Keys() {
		if strings.HasSuffix(key, ":tokens") && !strings.HasPrefix(key, "sconce:s:") {
			n += len(members(t, r.server, key))
		}
	}
	return n
}

// A close that was cut short, a revocation by a Sconce that does not count tokens and an
// issue that died before its record leave tokens counted. Where the limit is reached,
// they are found, and what may be under way is left alone.
func TestTokenLimitsForgetLeftovers(t *testing.T) {
	for _, c := range []struct {
		name, limit string
		most        int
		owner       func(i int) string
	}{
		{"an owner", sessions.LimitTokensPerOwner, storetest.MaxOwnedTokens, func(int) string { return "ann" }},
		{"an organisation", sessions.LimitTokensPerOrg, storetest.MaxOrgTokens, func(i int) string { return fmt.Sprint(i) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTokenRig(t)
			var made []sessions.Session
			var tokens []sessions.Token
			for i := range c.most {
				s, token := r.session(t, c.owner(i), 1)
				made, tokens = append(made, s), append(tokens, token)
			}
			record := func(i int) string { return "sconce:s:{" + string(made[i].ID) + "}" }
			refused := func(why string) {
				t.Helper()
				other, _ := r.session(t, c.owner(c.most), 0)
				var reached *sessions.LimitError
				if _, err := r.issue(t, other); !errors.As(err, &reached) || reached.Limit != c.limit {
					t.Errorf("%s: %v", why, err)
				}
			}
			taken := func(why string) {
				t.Helper()
				other, _ := r.session(t, c.owner(c.most), 0)
				if _, err := r.issue(t, other); err != nil {
					t.Errorf("%s: %v", why, err)
				}
				refused("after " + why)
			}
			refused("full")
			r.server.HSet(record(0), "state", "closed")
			taken("a close that was cut short")
			r.server.HSet(record(1)+":tokens", tokens[1].ID, "1 "+fmt.Sprint(tokens[1].ExpiresAt.UnixMilli())+" 2 ")
			taken("a revocation by a Sconce that does not count")
			r.server.HDel(record(2)+":tokens", tokens[2].ID)
			r.server.Del(record(3))
			refused("what may be under way")
			r.now = r.now.Add(2 * time.Minute)
			other, _ := r.session(t, c.owner(c.most), 2)
			refused("two that were given up")
			if left := len(mustTokens(t, r, other.ID)); left != 2 {
				t.Errorf("%d tokens are left, want 2", left)
			}
		})
	}
}

func mustTokens(t *testing.T, r *tokenRig, id sessions.ID) []sessions.Token {
	t.Helper()
	list, err := r.Tokens(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Nothing is counted of tokens that have ended, however they did, and the sets are gone
// with the last one.
func TestTokenSetsEnd(t *testing.T) {
	r := newTokenRig(t)
	one, first := r.session(t, "ann", 3)
	other, _ := r.session(t, "bob", 2)
	for _, step := range []struct {
		name string
		do   func() error
		want int
	}{
		{"issued", func() error { return nil }, 10},
		{"one is revoked", func() error {
			_, err := r.RevokeTokens(t.Context(), one.ID, []string{first.ID}, r.now)
			return err
		}, 8},
		{"all of a session are", func() error { _, err := r.RevokeTokens(t.Context(), one.ID, nil, r.now); return err }, 4},
		{"a close", func() error {
			_, err := r.Transition(t.Context(), other.ID, sessions.CloseAt(r.now, ""))
			return err
		}, 0},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := r.counted(t); got != step.want {
			t.Errorf("%s: %d are counted, want %d", step.name, got, step.want)
		}
	}
	if _, err := r.issue(t, one); err != nil {
		t.Fatal(err)
	}
	r.server.FastForward(59 * time.Minute)
	if got := r.counted(t); got != 2 {
		t.Errorf("before it expires it is in %d sets, want 2", got)
	}
	r.server.FastForward(12 * time.Minute)
	if got := r.counted(t); got != 0 {
		t.Errorf("long after it expired it is in %d sets", got)
	}
}

// Tokens of before there was a limit do not count, and may be revoked all the same.
func TestTokensWithoutALimit(t *testing.T) {
	r := newTokenRig(t)
	unbound, err := redisstore.New(redisstore.Config{Addresses: []string{r.server.Addr()}, MaxTokens: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unbound.Close() })
	limited := r.Store
	r.Store = unbound
	s, first := r.session(t, "ann", storetest.MaxOwnedTokens+1)
	if got := r.counted(t); got != 0 {
		t.Errorf("%d are counted without a limit", got)
	}
	r.Store = limited
	other, _ := r.session(t, "ann", 1)
	r.Store = unbound // it ends what others have counted
	if _, err := r.RevokeTokens(t.Context(), s.ID, []string{first.ID}, r.now); err != nil {
		t.Error(err)
	}
	if _, err := r.RevokeTokens(t.Context(), other.ID, nil, r.now); err != nil {
		t.Error(err)
	}
	if got := r.counted(t); got != 0 {
		t.Errorf("%d are still counted", got)
	}
}
