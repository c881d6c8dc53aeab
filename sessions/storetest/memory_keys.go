package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// MaxKeys is how many open API keys an organisation may have in the registry that
// the suite is given.
const MaxKeys = 3

// AddKey implements sessions.KeyStore.
func (m *Memory) AddKey(ctx context.Context, k sessions.Key) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	open := 0
	for _, other := range m.keys {
		if other.Org == k.Org && other.Open(k.CreatedAt) {
			open++
		}
	}
	if open >= MaxKeys {
		return sessions.ErrTooManyKeys
	}
	m.keys[k.ID] = k
	return nil
}

// Key implements sessions.KeyStore.
func (m *Memory) Key(ctx context.Context, id string) (sessions.Key, error) {
	return m.changeKey(ctx, id, func(*sessions.Key) {})
}

// Keys implements sessions.KeyStore.
func (m *Memory) Keys(ctx context.Context, org string) ([]sessions.Key, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	list := slices.SortedFunc(maps.Values(m.keys), func(a, b sessions.Key) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return slices.DeleteFunc(list, func(k sessions.Key) bool { return k.Org != org }), nil
}

// RevokeKey implements sessions.KeyStore.
func (m *Memory) RevokeKey(ctx context.Context, id string, now time.Time) (sessions.Key, error) {
	return m.changeKey(ctx, id, func(k *sessions.Key) {
		if k.RevokedAt.IsZero() {
			k.RevokedAt = now.UTC().Truncate(time.Millisecond)
		}
	})
}

// UseKey implements sessions.KeyStore.
func (m *Memory) UseKey(ctx context.Context, id string, now time.Time) error {
	_, err := m.changeKey(ctx, id, func(k *sessions.Key) { k.UsedAt = now.UTC().Truncate(time.Millisecond) })
	if errors.Is(err, sessions.ErrUnknownKey) {
		return nil
	}
	return err
}

func (m *Memory) changeKey(ctx context.Context, id string, change func(*sessions.Key)) (sessions.Key, error) {
	if err := m.enter(ctx); err != nil {
		return sessions.Key{}, err
	}
	defer m.mu.Unlock()
	k, ok := m.keys[id]
	if !ok {
		return sessions.Key{}, sessions.ErrUnknownKey
	}
	change(&k)
	m.keys[id] = k
	return k, nil
}
