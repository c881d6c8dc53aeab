package storetest

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
)

// Drain implements sessions.DrainStore.
func (m *Memory) Drain(ctx context.Context, cluster string, d sessions.Drain) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if _, ok := m.drains[cluster]; !ok {
		m.drains[cluster] = d
	}
	return nil
}

// Resume implements sessions.DrainStore.
func (m *Memory) Resume(ctx context.Context, cluster string) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	delete(m.drains, cluster)
	return nil
}

// Draining implements sessions.DrainStore.
func (m *Memory) Draining(ctx context.Context) (map[string]sessions.Drain, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return maps.Clone(m.drains), nil
}

// A drain is seen by every replica at once, stays as it began, and ends with resume.
func testDrains(t *testing.T, s *suite) {
	other := s.open(t)
	one, two := "c-"+uuid.NewString(), "c-"+uuid.NewString()
	want := map[string]sessions.Drain{one: {At: s.now, Reason: "new disks: \"soon\" \u00e9"}, two: {At: s.now}}
	look := func() {
		t.Helper()
		all, err := other.Draining(t.Context())
		must(t, err)
		for _, name := range []string{one, two} {
			got, is := all[name]
			if d, should := want[name]; is != should || !got.At.Equal(d.At) || got.Reason != d.Reason {
				t.Errorf("%s drains: %v %+v, want %v %+v", name, is, got, should, d)
			}
		}
	}
	for name, d := range want {
		must(t, s.Drain(t.Context(), name, d))
	}
	must(t, other.Drain(t.Context(), one, sessions.Drain{At: s.now.Add(time.Hour), Reason: "again"}))
	look()
	for range 2 {
		must(t, s.Resume(t.Context(), two))
		delete(want, two)
		look()
	}
	must(t, other.Resume(t.Context(), one))
	delete(want, one)
	look()
}
