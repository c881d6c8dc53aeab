package sessions_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// Uses are written once a minute, the rest at the end; what could not be written
// is written later.
func TestTokenUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storetest.NewMemory()
		s := active(t, memory)
		now := time.Now()
		if err := memory.AddToken(t.Context(), s, sessions.Token{ID: "j", CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, now); err != nil {
			t.Fatal(err)
		}
		u, err := sessions.NewTokenUses(sessions.TokenUsesConfig{Tokens: memory})
		if err != nil {
			t.Fatal(err)
		}
		used := func() time.Time {
			t.Helper()
			list, err := memory.Tokens(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			return list[0].LastUsedAt
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- u.Run(ctx) }()
		u.Note(s.ID, "j", now)
		time.Sleep(59 * time.Second)
		if !used().IsZero() {
			t.Error("written at once")
		}
		memory.Fail(sessions.ErrUnavailable)
		time.Sleep(2 * time.Second)
		memory.Fail(nil)
		time.Sleep(time.Minute)
		if !used().Equal(now) {
			t.Errorf("used at %s, want %s", used(), now)
		}
		later := time.Now()
		u.Note(s.ID, "j", later)
		u.Note(s.ID, "j", now)
		stop()
		<-ended
		if !used().Equal(later) {
			t.Errorf("used at %s, want %s", used(), later)
		}
	})
}

func TestTokenUsesAreBounded(t *testing.T) {
	u, err := sessions.NewTokenUses(sessions.TokenUsesConfig{Tokens: storetest.NewMemory(), Most: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		u.Note("s", fmt.Sprint(i), time.Now())
		u.Note("s", "0", time.Now())
	}
	if n := u.Dropped(); n != 2 {
		t.Errorf("%v uses were dropped, want 2", n)
	}
	if _, err := sessions.NewTokenUses(sessions.TokenUsesConfig{}); err == nil {
		t.Error("accepted without a store")
	}
}
