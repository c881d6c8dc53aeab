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

// Records reads sessions from the registry. A sessions.Store is one.
type Records interface {
	// Get returns the records of those ids that have one. ErrUnavailable.
	Get(ctx context.Context, ids ...sessions.ID) ([]sessions.Session, error)
}

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

// mayAsk says whether the caller may learn what became of the session: ErrDenied
// where it is not theirs, and the same where there is none. A token for one
// session has said so by itself.
func (r *Router) mayAsk(ctx context.Context, id *auth.Identity, session sessions.ID) error {
	if id.Kind != auth.KindOutside {
		return nil
	}
	if r.records == nil || !session.Valid() {
		return sessions.ErrDenied
	}
	found, err := r.records.Get(ctx, session)
	if err != nil {
		return err
	}
	if len(found) == 0 || !owns(id, &found[0]) {
		return sessions.ErrDenied
	}
	return nil
}
