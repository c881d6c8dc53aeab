package sessions

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// checkAndAudit is how every operation of the Manager starts. It finds the
// session, if the action has one, and asks the policy. What is denied is audited
// here; an operation that is allowed must end its entry with what came of it. A
// session that does not exist and one of somebody else are the same to the
// caller: ErrDenied.
func (m *Manager) checkAndAudit(ctx context.Context, a Actor, action Action, id ID) (Session, *entryOfAudit, error) {
	entry := &entryOfAudit{log: m.audit, trail: m.Audit, now: m.Now, actor: a, action: action, session: id}
	s, err := m.check(ctx, a, action, id)
	if err != nil {
		entry.end(err)
		return Session{}, nil, err
	}
	return s, entry, nil
}

func (m *Manager) check(ctx context.Context, a Actor, action Action, id ID) (Session, error) {
	a.Operator = slices.ContainsFunc(m.Operators, func(o Operator) bool { return o.is(a) })
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

// AuditEntry is one decision: who asked for what, and what came of it. It never
// holds a token, a plan or SQL.
type AuditEntry struct {
	At         time.Time
	Actor, Org string
	Admin      bool
	Via        string // Actor.Via: by which API key or outside issuer; "" = a control token
	Action     Action
	Session    ID     // "" = none, or not known
	Cluster    string // "" = none, or not known
	TokenIDs   string // of the tokens that were issued or revoked, a space between
	KeyID      string // of the API key that was made or is to be revoked; "" = none
	Source     string // address of the caller; "" = not known
	Outcome    string // done, denied or failed
	Reason     string // "" where it is done
	RequestID  string
}

// AuditTrail takes every decision. Add must not block; *AuditQueue is one.
type AuditTrail interface{ Add(AuditEntry) }

// entryOfAudit is one decision while it is made: a line of the audit log and an
// entry of the trail.
type entryOfAudit struct {
	log     *zap.Logger
	trail   AuditTrail // nil = there is none
	now     func() time.Time
	actor   Actor
	action  Action
	session ID     // "" until it is known
	cluster string // "" = none
	token   string // the ids of the tokens that were issued or revoked, "" = none
	key     string // the id of the API key that was made or is to be revoked, "" = none
}

// end writes it down: done, denied or failed.
func (e *entryOfAudit) end(err error) {
	outcome, reason := "done", ""
	if err != nil {
		outcome, reason = "failed", err.Error()
		if errors.Is(err, ErrDenied) {
			outcome = "denied"
		}
	}
	if e.trail != nil {
		e.trail.Add(AuditEntry{
			At: e.now(), Actor: e.actor.Subject, Org: e.actor.Org, Admin: e.actor.Admin, Via: e.actor.Via,
			Action: e.action, Session: e.session, Cluster: e.cluster, TokenIDs: e.token, KeyID: e.key, Source: e.actor.Source, Outcome: outcome, Reason: reason, RequestID: e.actor.RequestID,
		})
	}
	fields := []zap.Field{
		zap.String("actor", e.actor.Subject), zap.String("organisation", e.actor.Org), zap.Bool("admin", e.actor.Admin),
		zap.String("action", string(e.action)), zap.String("session", string(e.session)),
		zap.String("source", e.actor.Source), zap.String("request_id", e.actor.RequestID),
	}
	if e.actor.Via != "" {
		fields = append(fields, zap.String("via", e.actor.Via))
	}
	if e.cluster != "" {
		fields = append(fields, zap.String("cluster", e.cluster))
	}
	if e.key != "" {
		fields = append(fields, zap.String("key_id", e.key))
	}
	if e.token != "" {
		fields = append(fields, zap.String("token_id", e.token))
	}
	if err != nil {
		fields = append(fields, zap.String("reason", reason))
	}
	e.log.Info("audit", append(fields, zap.String("outcome", outcome))...)
}
