package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/auth"
)

// Key is what the registry knows of one API key: by it a person or a program
// speaks to the control API without an issuer of tokens. The key itself is kept
// nowhere.
type Key struct {
	// ID stands in the key. It is no secret.
	ID string
	// Name is what it is called in lists; any number of keys may have one name,
	// "" = none.
	Name string
	// Subject and Org are whom it speaks for, Admin whether as an admin of Org.
	Subject, Org string
	Admin        bool
	// CreatedBy is the subject that made it.
	CreatedBy            string
	CreatedAt, ExpiresAt time.Time
	// UsedAt is when it was used last, true to a minute; zero = never.
	UsedAt time.Time
	// RevokedAt is zero unless it was ended before its time.
	RevokedAt time.Time
	// Hash is an auth.KeyHash.
	Hash [32]byte
}

// Open says whether the key is good at that time.
func (k Key) Open(now time.Time) bool { return k.RevokedAt.IsZero() && now.Before(k.ExpiresAt) }

// KeyStore is the part of the registry that knows API keys. Every method may also
// return ErrUnavailable.
type KeyStore interface {
	// AddKey records a new key. ErrTooManyKeys.
	AddKey(ctx context.Context, k Key) error

	// Key returns one key. ErrUnknownKey.
	Key(ctx context.Context, id string) (Key, error)

	// Keys returns the keys of an organisation, the newest first. Those that
	// expired a month ago may be missing.
	Keys(ctx context.Context, org string) ([]Key, error)

	// RevokeKey ends a key and returns it; one that is revoked stays as it is.
	// ErrUnknownKey.
	RevokeKey(ctx context.Context, id string, now time.Time) (Key, error)

	// UseKey notes that a key was used. For one that is not there it does nothing.
	UseKey(ctx context.Context, id string, now time.Time) error
}

// The lives of API keys. They end, all of them: a key that nobody remembers is
// not to be good for ever.
const (
	defaultKeyLife = 90 * 24 * time.Hour
	maxKeyLife     = 366 * 24 * time.Hour
	minKeyLife     = time.Minute
	// keyUseEvery is how often the use of a key is written down at most.
	keyUseEvery = time.Minute
)

// KeyRequest says what API key to make.
type KeyRequest struct {
	// Name is "" or formed like a session's.
	Name string
	// Subject is whom it shall speak for; "" = the actor. Always in the actor's
	// organisation.
	Subject string
	// Admin: as an admin of the organisation.
	Admin bool
	// Lifetime is from a minute to 366 days; 0 = 90 days.
	Lifetime time.Duration
}

func (r KeyRequest) validate() error {
	switch {
	case r.Lifetime < minKeyLife || r.Lifetime > maxKeyLife:
		return &InvalidError{"lifetime", fmt.Sprintf("must be from %s to %s", minKeyLife, maxKeyLife)}
	case !validName(r.Name):
		return &InvalidError{"name", nameRule}
	}
	if problem := auth.CheckName(r.Subject); problem != "" {
		return &InvalidError{"subject", problem}
	}
	return nil
}

// CreateKey makes an API key and returns it; it is shown this once. Admins of the
// organisation may. ErrTooManyKeys, *InvalidError.
func (m *Manager) CreateKey(ctx context.Context, a Actor, r KeyRequest) (key string, what Key, err error) {
	entry, err := m.checkKeys(ctx, a, ActionCreateKey)
	if err != nil {
		return "", Key{}, err
	}
	defer func() { entry.end(err) }()
	setDefault(&r.Lifetime, defaultKeyLife)
	if r.Subject == "" {
		r.Subject = a.Subject
	}
	if err := r.validate(); err != nil {
		return "", Key{}, err
	}
	key, id, hash, err := auth.NewAPIKey(m.Random)
	if err != nil {
		return "", Key{}, err
	}
	entry.key = id
	now := m.Now().UTC().Truncate(time.Millisecond)
	what = Key{
		ID: id, Name: r.Name, Subject: r.Subject, Org: a.Org, Admin: r.Admin, CreatedBy: a.Subject,
		CreatedAt: now, ExpiresAt: now.Add(r.Lifetime), Hash: hash,
	}
	if err := m.Keys.AddKey(ctx, what); err != nil {
		return "", Key{}, fmt.Errorf("record API key: %w", err)
	}
	return key, what, nil
}

// ListKeys returns the keys that speak for the actor, the newest first; org: all
// of its organisation, for its admins.
func (m *Manager) ListKeys(ctx context.Context, a Actor, org bool) (list []Key, err error) {
	action := ActionListKeys
	if org {
		action = ActionListOrgKeys
	}
	entry, err := m.checkKeys(ctx, a, action)
	if err != nil {
		return nil, err
	}
	defer func() { entry.end(err) }()
	all, err := m.Keys.Keys(ctx, a.Org)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		if org || k.Subject == a.Subject {
			list = append(list, k)
		}
	}
	return list, nil
}

// RevokeKey ends a key: the next call that comes by it, on any replica, is
// refused. A key of somebody else and one that never was are both ErrDenied.
func (m *Manager) RevokeKey(ctx context.Context, a Actor, id string) (k Key, err error) {
	entry := &entryOfAudit{log: m.audit, trail: m.Audit, now: m.Now, actor: a, action: ActionRevokeKey, key: id}
	defer func() { entry.end(err) }()
	if m.Keys == nil || !auth.IsKeyID(id) {
		return Key{}, ErrDenied
	}
	found, err := m.Keys.Key(ctx, id)
	switch {
	case err == nil && a.MayTouchKey(found):
		return m.Keys.RevokeKey(ctx, id, m.Now())
	case err == nil, errors.Is(err, ErrUnknownKey):
		return Key{}, ErrDenied
	}
	return Key{}, err
}

// checkKeys is checkAndAudit for what touches no one key.
func (m *Manager) checkKeys(ctx context.Context, a Actor, action Action) (*entryOfAudit, error) {
	_, entry, err := m.checkAndAudit(ctx, a, action, "")
	if err == nil && m.Keys == nil {
		entry.end(ErrDenied)
		return nil, ErrDenied
	}
	return entry, err
}

// Authenticate returns who an API key speaks for. It asks the registry each time:
// the calls that come by keys are few, and so a revocation bites at the next one.
// auth.ErrMalformed, ErrUnknownKey, ErrKeyRevoked, ErrKeyExpired.
func (m *Manager) Authenticate(ctx context.Context, key string) (Actor, error) {
	id, hash, err := auth.ParseAPIKey(key)
	if err != nil {
		return Actor{}, err
	}
	if m.Keys == nil {
		return Actor{}, ErrUnknownKey
	}
	k, err := m.Keys.Key(ctx, id)
	if err != nil {
		return Actor{}, fmt.Errorf("find API key: %w", err)
	}
	now := m.Now()
	switch {
	case !hash.Equal(k.Hash):
		return Actor{}, ErrUnknownKey
	case !k.RevokedAt.IsZero():
		return Actor{}, ErrKeyRevoked
	case !now.Before(k.ExpiresAt):
		return Actor{}, ErrKeyExpired
	}
	if now.Sub(k.UsedAt) >= keyUseEvery {
		if err := m.Keys.UseKey(ctx, id, now); err != nil {
			m.Logger.Warn("the use of an API key was not written down", zap.String("key_id", id), zap.Error(err))
		}
	}
	return Actor{Subject: k.Subject, Org: k.Org, Admin: k.Admin, Via: "key:" + k.ID}, nil
}
