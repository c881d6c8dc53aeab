package proxy

import (
	"context"
	"errors"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions"
)

// This file is what differs where a token comes from an outside issuer: it names
// its subject and no session, so x-session-id alone says which session is meant,
// and only that session's owner may use it. An admin of the organisation is not
// enough: the engine must see one user.

// awaitIdentity is identify for a token whose issuer's keys are being fetched.
func (r *Router) awaitIdentity(ctx context.Context, q *request) (*auth.Identity, *Refusal) {
	_, err := r.verifier.Verify(q.token, auth.KindSession)
	var pending *auth.PendingError
	if errors.As(err, &pending) {
		select {
		case <-pending.Done:
		case <-ctx.Done():
		}
	}
	return r.identify(q)
}

// record reads the session's record; it wakes nothing. To a token of an outside
// issuer everything is ErrDenied, whether it is there or not, but its owner's sessions.
// A token for one session has said by itself that it may ask.
func (r *Router) record(ctx context.Context, id *auth.Identity, session sessions.ID) (sessions.Session, error) {
	outside := id.Kind == auth.KindOutside
	if outside && !session.Valid() { // nor is it worth to be remembered as missing
		return sessions.Session{}, sessions.ErrDenied
	}
	s, err := r.resolver.Record(ctx, session)
	if outside && (errors.Is(err, sessions.ErrNotFound) || s.ID != "" && !owns(id, &s)) {
		return sessions.Session{}, sessions.ErrDenied
	}
	return s, err
}
