package storetest

import (
	"context"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
)

// key returns a new API key of that name and subject, a millisecond later than
// the one before. Its id is unique, not of the true form, which no store looks at.
func (s *suite) key(name, subject string) sessions.Key {
	s.now = s.now.Add(time.Millisecond)
	id := uuid.NewString()
	return sessions.Key{
		ID: id, Name: name, Subject: subject, Org: s.org, CreatedBy: "root of all",
		CreatedAt: s.now, ExpiresAt: s.now.Add(time.Hour), Hash: sha256.Sum256([]byte(id)),
	}
}

func (s *suite) addKey(t *testing.T, k sessions.Key) sessions.Key {
	t.Helper()
	must(t, s.AddKey(t.Context(), k))
	return k
}

func wantKeys(t *testing.T, got []sessions.Key, want ...sessions.Key) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("keys\n%+v, want\n%+v", got, want)
	}
}

func testKeys(t *testing.T, s *suite) {
	_, err := s.Key(t.Context(), uuid.NewString())
	wantError(t, err, sessions.ErrUnknownKey)
	first := s.addKey(t, s.key("ci of Ann", "ann"))
	second := s.key("", "bob:{x}")
	second.Admin = true
	s.addKey(t, second)
	elsewhere := s.key("", "ann")
	elsewhere.Org = uuid.NewString()
	s.addKey(t, elsewhere)
	for _, k := range []sessions.Key{first, second, elsewhere} {
		got, err := s.Key(t.Context(), k.ID)
		must(t, err)
		wantKeys(t, []sessions.Key{got}, k)
	}
	list, err := s.Keys(t.Context(), s.org)
	must(t, err)
	wantKeys(t, list, second, first)
	list, err = s.Keys(t.Context(), "of nobody")
	must(t, err)
	wantKeys(t, list)
}

// A revocation is seen by every replica at once, and its time stays.
func testRevokeKey(t *testing.T, s *suite) {
	k := s.addKey(t, s.key("", "ann"))
	other := s.addKey(t, s.key("", "ann"))
	k.RevokedAt = s.now.Add(time.Second)
	for _, at := range []time.Time{k.RevokedAt, k.RevokedAt.Add(time.Hour)} {
		got, err := s.RevokeKey(t.Context(), k.ID, at)
		must(t, err)
		wantKeys(t, []sessions.Key{got}, k)
	}
	got, err := s.open(t).Key(t.Context(), k.ID)
	must(t, err)
	wantKeys(t, []sessions.Key{got}, k)
	got, err = s.Key(t.Context(), other.ID)
	must(t, err)
	wantKeys(t, []sessions.Key{got}, other)
	_, err = s.RevokeKey(t.Context(), uuid.NewString(), s.now)
	wantError(t, err, sessions.ErrUnknownKey)
}

func testUseKey(t *testing.T, s *suite) {
	k := s.addKey(t, s.key("", "ann"))
	for _, at := range []time.Time{s.now.Add(time.Second), s.now.Add(time.Minute)} {
		must(t, s.UseKey(t.Context(), k.ID, at))
		k.UsedAt = at
	}
	got, err := s.Key(t.Context(), k.ID)
	must(t, err)
	wantKeys(t, []sessions.Key{got}, k)
	// The use of a key that is gone makes none.
	gone := uuid.NewString()
	must(t, s.UseKey(t.Context(), gone, s.now))
	_, err = s.Key(t.Context(), gone)
	wantError(t, err, sessions.ErrUnknownKey)
}

// Only open keys count against the bound: revoked and expired ones make room.
func testTooManyKeys(t *testing.T, s *suite) {
	var first sessions.Key
	for range MaxKeys {
		first = s.addKey(t, s.key("", "ann"))
	}
	wantError(t, s.AddKey(t.Context(), s.key("", "bob")), sessions.ErrTooManyKeys)
	_, err := s.RevokeKey(t.Context(), first.ID, s.now)
	must(t, err)
	s.addKey(t, s.key("", "bob"))
	s.now = s.now.Add(2 * time.Hour)
	s.addKey(t, s.key("", "bob"))
}

func testKeysCancelled(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Key(ctx, uuid.NewString())
	wantError(t, err, context.Canceled)
}
