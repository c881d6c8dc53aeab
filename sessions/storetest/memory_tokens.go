package storetest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// MaxTokens is how many open tokens a session may have in the registry that the
// suite is given.
const MaxTokens = 3

// MaxOwnedTokens and MaxOrgTokens are how many open tokens one owner and one
// organisation may have in the registry that the suite is given.
const (
	MaxOwnedTokens = 7
	MaxOrgTokens   = 9
)

// LimitTokens bounds the open tokens of an owner and of an organisation; 0 = no limit.
func (m *Memory) LimitTokens(owned, inOrg int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokenLimits = [2]int{owned, inOrg}
}

// AddToken implements sessions.TokenStore.
func (m *Memory) AddToken(ctx context.Context, of sessions.Session, t sessions.Token, now time.Time) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if err := m.openToTokens(of.ID); err != nil {
		return err
	}
	if err := m.tokensFull(of, now); err != nil {
		return err
	}
	m.tokens[of.ID] = append(m.tokens[of.ID], t)
	return nil
}

// tokensFull says which limit one more token would break. Under mu.
func (m *Memory) tokensFull(of sessions.Session, now time.Time) error {
	owned, inOrg := 0, 0
	for id, s := range m.records {
		if s.State == sessions.Closed || s.Org != of.Org {
			continue
		}
		n := m.openTokens(id, now)
		inOrg += n
		if s.Owner == of.Owner {
			owned += n
		}
	}
	switch most := m.tokenLimits; {
	case most[0] > 0 && owned >= most[0]:
		return &sessions.LimitError{Limit: sessions.LimitTokensPerOwner, Max: most[0]}
	case most[1] > 0 && inOrg >= most[1]:
		return &sessions.LimitError{Limit: sessions.LimitTokensPerOrg, Max: most[1]}
	case m.openTokens(of.ID, now) >= MaxTokens:
		return &sessions.LimitError{Limit: sessions.LimitTokensPerSession, Max: MaxTokens}
	}
	return nil
}

// openTokens counts a session's. Under mu.
func (m *Memory) openTokens(id sessions.ID, now time.Time) (n int) {
	for _, t := range m.tokens[id] {
		if t.RevokedAt.IsZero() && now.Before(t.ExpiresAt) {
			n++
		}
	}
	return n
}

// TouchTokens implements sessions.TokenStore.
func (m *Memory) TouchTokens(ctx context.Context, uses []sessions.TokenUse) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, u := range uses {
		for i := range m.tokens[u.Session] {
			t := &m.tokens[u.Session][i]
			if t.ID == u.Token && u.At.After(t.LastUsedAt) && m.openToTokens(u.Session) == nil {
				t.LastUsedAt = u.At
			}
		}
	}
	return nil
}

// openToTokens says why a session's tokens can't be changed. Under mu.
func (m *Memory) openToTokens(id sessions.ID) error {
	s, ok := m.records[id]
	switch {
	case !ok:
		return sessions.ErrNotFound
	case s.State == sessions.Closed:
		return sessions.ErrClosed
	}
	return nil
}

// Tokens implements sessions.TokenStore.
func (m *Memory) Tokens(ctx context.Context, id sessions.ID) ([]sessions.Token, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if _, ok := m.records[id]; !ok {
		return nil, sessions.ErrNotFound
	}
	list := slices.Clone(m.tokens[id])
	slices.SortFunc(list, func(a, b sessions.Token) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// RevokeTokens implements sessions.TokenStore.
func (m *Memory) RevokeTokens(ctx context.Context, id sessions.ID, tokens []string, now time.Time) ([]sessions.Token, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	ended, err := m.revoke(id, tokens, now)
	s := m.records[id]
	var tell []*watcher
	if len(ended) > 0 && !m.silent {
		tell = slices.Collect(maps.Keys(m.watchers))
	}
	m.mu.Unlock()
	for _, w := range tell {
		w.changed(sessions.Change{ID: id, State: s.State, Generation: s.Generation, Revision: s.Revision})
	}
	return ended, err
}

// revoke ends tokens. Under mu.
func (m *Memory) revoke(id sessions.ID, tokens []string, now time.Time) (ended []sessions.Token, err error) {
	if err := m.openToTokens(id); err != nil {
		return nil, err
	}
	list := m.tokens[id]
	for _, t := range tokens {
		if !slices.ContainsFunc(list, func(k sessions.Token) bool { return k.ID == t }) {
			return nil, sessions.ErrUnknownToken
		}
	}
	var revoked []string
	for i := range list {
		if list[i].RevokedAt.IsZero() && (len(tokens) == 0 || slices.Contains(tokens, list[i].ID)) {
			list[i].RevokedAt = now
			ended = append(ended, list[i])
		}
		if !list[i].RevokedAt.IsZero() {
			revoked = append(revoked, list[i].ID)
		}
	}
	if len(ended) > 0 {
		s := m.records[id]
		s.Revoked = strings.Join(revoked, " ")
		s.Revision++
		m.records[id] = s
	}
	return ended, nil
}
