package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// TokenUse says when a token last let a request in.
type TokenUse struct {
	Session ID
	Token   string
	At      time.Time
}

// TokenUsesConfig is what TokenUses is made of.
type TokenUsesConfig struct {
	Tokens TokenStore // required
	// Every is how often uses are written. 0 = 1 min.
	Every time.Duration
	// Most is how many tokens are noted between two writes; what is beyond is
	// counted and not written. 0 = 10,000.
	Most int
	// Timeout bounds one write. 0 = 2 s.
	Timeout time.Duration
	// Logger; nil = none.
	Logger *zap.Logger
}

// TokenUses remembers which tokens were used on this replica and writes that
// down now and then, off the way of requests.
type TokenUses struct {
	TokenUsesConfig

	mu      sync.Mutex
	pending map[tokenKey]time.Time
	dropped uint64
}

type tokenKey struct {
	session ID
	token   string
}

// NewTokenUses checks c and starts nothing. Call Run.
func NewTokenUses(c TokenUsesConfig) (*TokenUses, error) {
	if c.Tokens == nil {
		return nil, errors.New("token uses: a token store is needed")
	}
	setDefault(&c.Every, time.Minute)
	setDefault(&c.Most, 10_000)
	setDefault(&c.Timeout, 2*time.Second)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return &TokenUses{TokenUsesConfig: c, pending: map[tokenKey]time.Time{}}, nil
}

// Note says that a token was used. It never blocks. Callers should not note one
// token more often than once in a minute or so.
func (u *TokenUses) Note(session ID, token string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.note(tokenKey{session, token}, at)
}

// note keeps the latest time. Under mu.
func (u *TokenUses) note(k tokenKey, at time.Time) {
	old, known := u.pending[k]
	switch {
	case !known && len(u.pending) >= u.Most:
		u.dropped++
	case !known || at.After(old):
		u.pending[k] = at
	}
}

// Run writes every now and then until ctx ends, and then a last time.
func (u *TokenUses) Run(ctx context.Context) error {
	tick := time.NewTicker(u.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.write(ctx)
		case <-ctx.Done():
			u.write(context.WithoutCancel(ctx))
			return ctx.Err()
		}
	}
}

// write writes what is pending; what could not be written stays so.
func (u *TokenUses) write(ctx context.Context) {
	u.mu.Lock()
	pending := u.pending
	u.pending = make(map[tokenKey]time.Time, len(pending))
	u.mu.Unlock()
	if len(pending) == 0 {
		return
	}
	uses := make([]TokenUse, 0, len(pending))
	for k, at := range pending {
		uses = append(uses, TokenUse{k.session, k.token, at})
	}
	slices.SortFunc(uses, func(a, b TokenUse) int { // a store may write a session's at once
		return strings.Compare(string(a.Session), string(b.Session))
	})
	ctx, cancel := context.WithTimeout(ctx, u.Timeout)
	defer cancel()
	if err := u.Tokens.TouchTokens(ctx, uses); err != nil {
		u.Logger.Debug("uses of tokens are not written yet", zap.Error(fmt.Errorf("touch tokens: %w", err)))
		u.mu.Lock()
		defer u.mu.Unlock()
		for k, at := range pending {
			u.note(k, at)
		}
	}
}

// Dropped is how many uses were not written down since Most were pending.
func (u *TokenUses) Dropped() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.dropped
}
