package sessions

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sconce-dev/sconce/auth"
)

// Token is what the registry knows of one session token. The token itself is
// kept nowhere.
type Token struct {
	// ID is the token's "jti". It is no secret.
	ID string
	// Name is what its owner calls it; any number of tokens may have one name,
	// "" = none.
	Name                 string
	CreatedAt, ExpiresAt time.Time
	// LastUsedAt is when it last let a request in, to some two minutes; zero before
	// the first.
	LastUsedAt time.Time
	// RevokedAt is zero unless the token was ended before its time.
	RevokedAt time.Time
}

// open says whether the token could still open its session at that time.
func (t Token) open(now time.Time) bool { return t.RevokedAt.IsZero() && now.Before(t.ExpiresAt) }

// TokenStore is the part of the registry that knows tokens. Every method may also
// return ErrUnavailable and ErrNotFound, where there is no such session.
type TokenStore interface {
	// AddToken records a new token of s, of which it reads the id, the owner and the
	// organisation. ErrClosed; *LimitError, which no number of tokens at once gets past.
	AddToken(ctx context.Context, s Session, t Token, now time.Time) error

	// Tokens returns the tokens of a session, the newest first. Those that expired
	// some minutes ago may be missing.
	Tokens(ctx context.Context, id ID) ([]Token, error)

	// TouchTokens writes down when tokens were last used, unless a later use is
	// known. Tokens and sessions that are not known, and closed ones, are left out.
	TouchTokens(ctx context.Context, uses []TokenUse) error

	// RevokeTokens ends tokens of a session, all where none are named, and
	// returns those that it ended: in one step with Session.Revoked, of which
	// everybody hears as of a transition. ErrUnknownToken where one of them is
	// none of the session's, and then nothing changes; ErrClosed.
	RevokeTokens(ctx context.Context, id ID, tokens []string, now time.Time) ([]Token, error)
}

// IsRevoked says whether a token's id stands in Session.Revoked.
func IsRevoked(revoked, token string) bool {
	for revoked != "" {
		var one string
		if one, revoked, _ = strings.Cut(revoked, " "); one == token {
			return true
		}
	}
	return false
}

// TokenRequest says what token to issue.
type TokenRequest struct {
	// Lifetime; 0 = ManagerConfig.TokenLifetime.
	Lifetime time.Duration
	// Name is "" or formed like a session's.
	Name string
	// Replace revokes the other tokens of that name once the new one is made.
	Replace bool
}

func (r TokenRequest) validate(longest time.Duration) error {
	switch {
	case r.Lifetime < time.Second || r.Lifetime > longest:
		return &InvalidError{"lifetime", fmt.Sprintf("must be from 1s to %s", longest)}
	case !validName(r.Name):
		return &InvalidError{"name", nameRule}
	case r.Replace && r.Name == "":
		return &InvalidError{"replace", "needs the name of the tokens to replace"}
	}
	return nil
}

// IssueToken returns a token that opens the session, for its owner, whoever asked
// for it: the engine must see one user. It is recorded before it is shown.
// ErrClosed, ErrFailed, *LimitError, *InvalidError.
func (m *Manager) IssueToken(ctx context.Context, a Actor, id ID, r TokenRequest) (token string, what *auth.Identity, err error) {
	s, entry, err := m.checkAndAudit(ctx, a, ActionIssueToken, id)
	if err != nil {
		return "", nil, err
	}
	defer func() { entry.end(err) }()
	longest := m.longestToken(s)
	setDefault(&r.Lifetime, min(m.TokenLifetime, longest))
	switch err := r.validate(longest); {
	case s.State == Closed:
		return "", nil, ErrClosed
	case s.State == Failed && !m.Clusters.Wakeable(s): // else the next query wakes it
		return "", nil, &FailedError{Session: s.ID, Reason: s.Reason}
	case err != nil:
		return "", nil, err
	}
	token, what, err = m.Issuer.Issue(auth.Grant{Kind: auth.KindSession, Subject: s.Owner, Org: s.Org, Session: string(s.ID), Lifetime: r.Lifetime})
	if err != nil {
		return "", nil, fmt.Errorf("issue token: %w", err)
	}
	entry.token = what.TokenID
	if err := m.keepToken(ctx, s, what, r); err != nil {
		return "", nil, err
	}
	return token, what, nil
}

// longestToken is the longest life of a token for s.
func (m *Manager) longestToken(s Session) time.Duration {
	c, err := m.Clusters.Get(s.Cluster)
	if err != nil || c.Policy.MaxTokenLifetime == 0 {
		return m.MaxTokenLifetime
	}
	return min(m.MaxTokenLifetime, c.Policy.MaxTokenLifetime)
}

// keepToken records a token, and ends those that it replaces.
func (m *Manager) keepToken(ctx context.Context, s Session, what *auth.Identity, r TokenRequest) error {
	t := Token{ID: what.TokenID, Name: r.Name, CreatedAt: what.IssuedAt, ExpiresAt: what.Expires}
	if err := m.Tokens.AddToken(ctx, s, t, m.Now()); err != nil {
		return fmt.Errorf("record token: %w", err)
	}
	if !r.Replace {
		return nil
	}
	all, err := m.Tokens.Tokens(ctx, s.ID)
	if err != nil {
		return fmt.Errorf("replace tokens: %w", err)
	}
	var old []string
	for _, other := range all {
		if other.Name == r.Name && other.ID != t.ID && other.open(m.Now()) {
			old = append(old, other.ID)
		}
	}
	if len(old) == 0 {
		return nil
	}
	if _, err := m.Tokens.RevokeTokens(ctx, s.ID, old, m.Now()); err != nil {
		return fmt.Errorf("replace tokens: %w", err)
	}
	return nil
}

// ListTokens returns what is known of a session's tokens, the newest first.
func (m *Manager) ListTokens(ctx context.Context, a Actor, id ID) (list []Token, err error) {
	s, entry, err := m.checkAndAudit(ctx, a, ActionListTokens, id)
	if err != nil {
		return nil, err
	}
	defer func() { entry.end(err) }()
	return m.Tokens.Tokens(ctx, s.ID)
}

// RevokeTokens ends tokens before their time, on every replica within the
// Resolver's Trust, and the streams that came by them. all ends every token of
// the session; else tokens names them. It returns those that it ended.
// ErrUnknownToken, ErrClosed, *InvalidError.
func (m *Manager) RevokeTokens(ctx context.Context, a Actor, id ID, tokens []string, all bool) (ended []Token, err error) {
	s, entry, err := m.checkAndAudit(ctx, a, ActionRevokeToken, id)
	if err != nil {
		return nil, err
	}
	defer func() { entry.end(err) }()
	if all != (len(tokens) == 0) {
		return nil, &InvalidError{"token_ids", "must name the tokens to revoke, or else all must be set"}
	}
	ended, err = m.Tokens.RevokeTokens(ctx, s.ID, tokens, m.Now())
	ids := make([]string, len(ended))
	for i, t := range ended {
		ids[i] = t.ID
	}
	entry.token = strings.Join(ids, " ")
	return ended, err
}
