package sessions

import (
	"context"
	"errors"

	"go.uber.org/zap"
)

// checkAndAudit is how every operation of the Manager starts. It finds the
// session, if the action has one, and asks the policy. What is denied is audited
// here; an operation that is allowed must end its entry with what came of it. A
// session that does not exist and one of somebody else are the same to the
// caller: ErrDenied.
func (m *Manager) checkAndAudit(ctx context.Context, a Actor, action Action, id ID) (Session, *entryOfAudit, error) {
	entry := &entryOfAudit{log: m.audit, actor: a, action: action, session: id}
	s, err := m.check(ctx, a, action, id)
	if err != nil {
		entry.end(err)
		return Session{}, nil, err
	}
	return s, entry, nil
}

func (m *Manager) check(ctx context.Context, a Actor, action Action, id ID) (Session, error) {
	if id == "" {
		if !a.May(action) {
			return Session{}, ErrDenied
		}
		return Session{}, nil
	}
	found, err := m.Store.Get(ctx, id)
	if err != nil {
		return Session{}, err
	}
	if len(found) == 0 || !a.MayTouch(found[0]) {
		return Session{}, ErrDenied
	}
	return found[0], nil
}

// entryOfAudit is one line of the audit log: time, actor, action, session,
// outcome, reason, request id. It never holds a token.
type entryOfAudit struct {
	log     *zap.Logger
	actor   Actor
	action  Action
	session ID     // "" until it is known
	token   string // the ids of the tokens that were issued or revoked, "" = none
	key     string // the id of the API key that was made or is to be revoked, "" = none
}

// end writes the line: done, denied or failed.
func (e *entryOfAudit) end(err error) {
	fields := []zap.Field{
		zap.String("actor", e.actor.Subject), zap.String("organisation", e.actor.Org), zap.Bool("admin", e.actor.Admin),
		zap.String("action", string(e.action)), zap.String("session", string(e.session)),
		zap.String("request_id", e.actor.RequestID),
	}
	if e.actor.Via != "" {
		fields = append(fields, zap.String("via", e.actor.Via))
	}
	if e.key != "" {
		fields = append(fields, zap.String("key_id", e.key))
	}
	if e.token != "" {
		fields = append(fields, zap.String("token_id", e.token))
	}
	outcome := "done"
	if err != nil {
		outcome = "failed"
		if errors.Is(err, ErrDenied) {
			outcome = "denied"
		}
		fields = append(fields, zap.String("reason", err.Error()))
	}
	e.log.Info("audit", append(fields, zap.String("outcome", outcome))...)
}
