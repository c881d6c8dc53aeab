package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// auditStore keeps what it is given, or fails.
type auditStore struct {
	mu      sync.Mutex
	fault   error
	entries []sessions.AuditEntry
	writes  int
}

func (s *auditStore) AppendAudit(_ context.Context, entries []sessions.AuditEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return s.fault
	}
	s.writes++
	s.entries = append(s.entries, entries...)
	return nil
}

func (s *auditStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

func (s *auditStore) reasons() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		list = append(list, e.Reason)
	}
	return list
}

func numbered(from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

// Entries arrive in order, in batches, also after the store was away, and the
// last ones at the end.
func TestAuditQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &auditStore{}
		q, err := sessions.NewAuditQueue(sessions.AuditQueueConfig{Store: store, Batch: 10})
		if err != nil {
			t.Fatal(err)
		}
		add := func(from, to int) {
			for _, r := range numbered(from, to) {
				q.Add(sessions.AuditEntry{Reason: r})
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		add(0, 25)
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		synctest.Wait()
		if !slices.Equal(store.reasons(), numbered(0, 25)) || store.writes != 3 {
			t.Errorf("arrived %v in %d writes", store.reasons(), store.writes)
		}
		store.fail(errors.New("away"))
		add(25, 40)
		time.Sleep(time.Minute)
		store.fail(nil)
		time.Sleep(2 * time.Second)
		if !slices.Equal(store.reasons(), numbered(0, 40)) {
			t.Errorf("arrived %v", store.reasons())
		}
		add(40, 70)
		stop()
		<-ended
		if !slices.Equal(store.reasons(), numbered(0, 70)) || q.Dropped() != 0 {
			t.Errorf("arrived %v, %d dropped", store.reasons(), q.Dropped())
		}
	})
}

// A store that stays away costs entries, and they are counted.
func TestAuditQueueDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &auditStore{fault: errors.New("away")}
		q, err := sessions.NewAuditQueue(sessions.AuditQueueConfig{Store: store, Most: 5, Batch: 2})
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			q.Add(sessions.AuditEntry{})
		}
		if q.Dropped() != 3 {
			t.Errorf("%d dropped, want 3", q.Dropped())
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		synctest.Wait()
		stop()
		<-ended
		if q.Dropped() != 8 {
			t.Errorf("%d dropped at the end, want 8", q.Dropped())
		}
		if _, err := sessions.NewAuditQueue(sessions.AuditQueueConfig{}); err == nil {
			t.Error("accepted without a store")
		}
	})
}

// trail keeps what it is told.
type trail struct{ entries []sessions.AuditEntry }

func (t *trail) Add(e sessions.AuditEntry) { t.entries = append(t.entries, e) }

// Every decision goes into the trail, denials too, and no token does.
func TestAuditTrail(t *testing.T) {
	m, kept := newManager(t), &trail{}
	m.Audit = kept
	from := ann
	from.Source = "192.0.2.7:5000"
	s := m.create(t, from, "a")
	token, what, err := m.IssueToken(t.Context(), from, s.ID, sessions.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Describe(t.Context(), bob, s.ID); !errors.Is(err, sessions.ErrDenied) {
		t.Fatal(err)
	}
	if _, err := m.Create(t.Context(), admin, sessions.CreateRequest{Name: " bad"}); err == nil {
		t.Fatal("a bad name was taken")
	}
	want := []sessions.AuditEntry{
		{Actor: "ann", Org: "acme", Action: "session.create", Session: s.ID, Source: from.Source, Outcome: "done", RequestID: "r-1"},
		{Actor: "ann", Org: "acme", Action: "token.issue", Session: s.ID, TokenIDs: what.TokenID, Source: from.Source, Outcome: "done", RequestID: "r-1"},
		{Actor: "bob", Org: "acme", Action: "session.describe", Session: s.ID, Outcome: "denied", Reason: "not permitted"},
		{Actor: "root", Org: "acme", Admin: true, Action: "session.create", Outcome: "failed", Reason: "name must be 1 to 64 letters, digits, '-', '_' and spaces, with no space at either end"},
	}
	if len(kept.entries) != len(want) {
		t.Fatalf("kept %+v", kept.entries)
	}
	for i, got := range kept.entries {
		if time.Since(got.At) > time.Minute || strings.Contains(fmt.Sprint(got), token) {
			t.Errorf("entry %d: %+v", i, got)
		}
		got.At = time.Time{}
		if got != want[i] {
			t.Errorf("entry %d:\n%+v, want\n%+v", i, got, want[i])
		}
	}
}
