package sessions_test

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions"
)

func (m *managerTest) key(t *testing.T, r sessions.KeyRequest) (string, sessions.Key) {
	t.Helper()
	key, what, err := m.CreateKey(t.Context(), admin, r)
	if err != nil {
		t.Fatal(err)
	}
	return key, what
}

func TestAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		key, what := m.key(t, sessions.KeyRequest{Name: "ci", Subject: "ann", Lifetime: time.Hour})
		want := sessions.Actor{Subject: "ann", Org: "acme", Via: "key:" + what.ID}
		if got, err := m.Authenticate(t.Context(), key); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
		own, _ := m.key(t, sessions.KeyRequest{Admin: true})
		if got, err := m.Authenticate(t.Context(), own); err != nil || got.Subject != "root" || !got.Admin {
			t.Errorf("an admin's own key: %+v, %v", got, err)
		}
		// One that was made of the id and another secret.
		forged, _, _, err := auth.NewAPIKey(strings.NewReader(strings.Repeat("\x00", 30)))
		if err != nil {
			t.Fatal(err)
		}
		stranger, id, hash, err := auth.NewAPIKey(strings.NewReader(strings.Repeat("\x01", 30)))
		if err != nil {
			t.Fatal(err)
		}
		hash[0]++
		other := what
		other.ID, other.Hash = id, hash
		if err := m.memory.AddKey(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			key  string
			want error
		}{
			"unknown":        {forged, sessions.ErrUnknownKey},
			"another secret": {stranger, sessions.ErrUnknownKey},
			"damaged":        {key[:len(key)-1] + "!", auth.ErrMalformed},
			"no key":         {"sck_", auth.ErrMalformed},
		} {
			if _, err := m.Authenticate(t.Context(), c.key); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		time.Sleep(time.Hour)
		if _, err := m.Authenticate(t.Context(), key); !errors.Is(err, sessions.ErrKeyExpired) {
			t.Errorf("expired: %v", err)
		}
		if _, err := m.RevokeKey(t.Context(), ann, what.ID); err != nil {
			t.Errorf("its subject revokes it: %v", err)
		}
		if _, err := m.Authenticate(t.Context(), key); !errors.Is(err, sessions.ErrKeyRevoked) {
			t.Errorf("revoked: %v", err)
		}
		m.memory.Fail(sessions.ErrUnavailable)
		if _, err := m.Authenticate(t.Context(), own); !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("registry away: %v", err)
		}
	})
}

// The use of a key is written down once a minute.
func TestKeyUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		key, what := m.key(t, sessions.KeyRequest{})
		var used []time.Duration
		for range 5 {
			if _, err := m.Authenticate(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			now, err := m.memory.Key(t.Context(), what.ID)
			if err != nil {
				t.Fatal(err)
			}
			used = append(used, now.UsedAt.Sub(what.CreatedAt))
			time.Sleep(25 * time.Second)
		}
		if got, want := fmt.Sprint(used), "[0s 0s 0s 1m15s 1m15s]"; got != want {
			t.Errorf("used at %s, want %s", got, want)
		}
	})
}

// Who may do what with keys. One of somebody else and one that never was are
// denied alike.
func TestKeyPolicy(t *testing.T) {
	m := newManager(t)
	_, anns := m.key(t, sessions.KeyRequest{Subject: "ann"})
	const none = "0123456789abcdef"
	revoke := func(a sessions.Actor, id string) error { _, err := m.RevokeKey(t.Context(), a, id); return err }
	for name, a := range map[string]sessions.Actor{"a colleague": bob, "of another organisation": annsTwin, "nobody": nobody} {
		there, not, odd := revoke(a, anns.ID), revoke(a, none), revoke(a, "../x")
		if !errors.Is(there, sessions.ErrDenied) || there.Error() != fmt.Sprint(not) || there.Error() != fmt.Sprint(odd) {
			t.Errorf("%s revokes a key: %v, one that never was: %v, no id: %v", name, there, not, odd)
		}
	}
	for name, a := range map[string]sessions.Actor{"its subject": ann, "an admin": admin} {
		if err := revoke(a, anns.ID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, a := range map[string]sessions.Actor{"no admin": ann, "nobody": nobody} {
		if _, _, err := m.CreateKey(t.Context(), a, sessions.KeyRequest{}); !errors.Is(err, sessions.ErrDenied) {
			t.Errorf("%s makes a key: %v", name, err)
		}
		if _, err := m.ListKeys(t.Context(), a, true); !errors.Is(err, sessions.ErrDenied) {
			t.Errorf("%s lists the organisation's: %v", name, err)
		}
	}
	m.key(t, sessions.KeyRequest{Name: "of root"})
	for _, c := range []struct {
		actor sessions.Actor
		org   bool
		want  int
	}{{ann, false, 1}, {bob, false, 0}, {admin, false, 1}, {admin, true, 2}, {annsTwin, true, 0}} {
		if list, err := m.ListKeys(t.Context(), c.actor, c.org); err != nil || len(list) != c.want {
			t.Errorf("%s of %s, organisation %v: %d keys, %v; want %d", c.actor.Subject, c.actor.Org, c.org, len(list), err, c.want)
		}
	}
	m.Keys = nil
	if _, err := m.ListKeys(t.Context(), admin, true); !errors.Is(err, sessions.ErrDenied) {
		t.Errorf("without a store of keys: %v", err)
	}
}

func TestKeyRequestIsRefused(t *testing.T) {
	m := newManager(t)
	for field, r := range map[string]sessions.KeyRequest{
		"lifetime": {Lifetime: 400 * 24 * time.Hour},
		"name":     {Name: "a/b"},
		"subject":  {Subject: "a\nb"},
	} {
		_, _, err := m.CreateKey(t.Context(), admin, r)
		var invalid *sessions.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Each operation leaves one line, which says by what the actor came and names the
// key; no line holds a key. And each is in the trail.
func TestKeyAudit(t *testing.T) {
	m, kept := newManager(t), &trail{}
	m.Audit = kept
	byOIDC := admin
	byOIDC.Via = "https://login.example"
	key, what, err := m.CreateKey(t.Context(), byOIDC, sessions.KeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = m.ListKeys(t.Context(), bob, false)
	_, _ = m.RevokeKey(t.Context(), bob, what.ID)
	want := []string{
		"root key.create done " + what.ID + " https://login.example", "bob key.list done <nil> <nil>", "bob key.revoke denied " + what.ID + " <nil>",
	}
	lines := m.log.FilterMessage("audit").All()
	if len(lines) != len(want) || len(kept.entries) != len(want) {
		t.Fatalf("%d lines, %d entries, want %d of both", len(lines), len(kept.entries), len(want))
	}
	for i, line := range lines {
		f := line.ContextMap()
		if got := fmt.Sprint(f["actor"], " ", f["action"], " ", f["outcome"], " ", f["key_id"], " ", f["via"]); got != want[i] {
			t.Errorf("line %d: %s, want %s", i, got, want[i])
		}
		if strings.Contains(fmt.Sprint(f), key) {
			t.Errorf("line %d holds the key", i)
		}
		e := kept.entries[i]
		or := func(text string) string { return cmp.Or(text, "<nil>") }
		if got := fmt.Sprint(e.Actor, " ", e.Action, " ", e.Outcome, " ", or(e.KeyID), " ", or(e.Via)); got != want[i] || e.At.IsZero() || strings.Contains(fmt.Sprint(e), key) {
			t.Errorf("entry %d: %s at %s, want %s", i, got, e.At, want[i])
		}
	}
}
