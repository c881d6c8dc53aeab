package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

func TestCreateIsActiveWhenTheClusterAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.engine.set(errors.New("not up yet"))
		time.AfterFunc(10*time.Second, func() { m.engine.set(nil) })
		began := time.Now()
		s := m.create(t, ann, "notebook")
		if s.State != sessions.Active || s.Generation != 1 || s.Owner != "ann" || s.Org != "acme" || s.Cluster != "c" || s.Name != "notebook" || !s.ID.Valid() {
			t.Errorf("made %+v", s)
		}
		if waited := time.Since(began); waited < 10*time.Second || waited > 13*time.Second {
			t.Errorf("waited %s", waited)
		}
	})
}

func TestCreateFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer error
		waits  time.Duration
		reason string
	}{
		{"no answer", errors.New("dial tcp 10.1.2.3:15002: refused"), 30 * time.Second, "it is unreachable: the cluster did not answer within 30s"},
		{"refused", fmt.Errorf("probe: %w", sessions.ErrRefused), 0, "the cluster refused the token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				m.engine.set(c.answer)
				began := time.Now()
				s, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: "a", RequestID: "x"})
				var why *sessions.ClusterError
				if !errors.As(err, &why) || !errors.Is(err, sessions.ErrClusterNotActive) || !strings.HasPrefix(why.Reason, c.reason) || strings.Contains(why.Reason, "10.1.2.3") {
					t.Errorf("error %v", err)
				}
				if waited := time.Since(began); waited != c.waits {
					t.Errorf("waited %s, want %s", waited, c.waits)
				}
				if s.State != sessions.Failed || s.Reason != why.Reason || why.Session != s.ID {
					t.Errorf("left behind: %+v", s)
				}
				m.engine.set(nil)
				if _, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: "a", RequestID: "x"}); !errors.Is(err, sessions.ErrClusterNotActive) {
					t.Errorf("the same request again: %v", err)
				}
			})
		})
	}
}

func TestCreateGoesOnWithoutItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.engine.set(errors.New("not up yet"))
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		time.AfterFunc(5*time.Second, func() { m.engine.set(nil) })
		if s, err := m.Create(ctx, ann, sessions.CreateRequest{}); err != nil || s.State != sessions.Active {
			t.Errorf("left behind: %+v, %v", s, err)
		}
	})
}

func TestCreateAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.engine.set(errors.New("not up yet"))
		time.AfterFunc(5*time.Second, func() { m.engine.set(nil) })
		made := make(chan sessions.Session, 2)
		for range 2 {
			go func() {
				s, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: "a", RequestID: "x"})
				if err != nil {
					t.Error(err)
				}
				made <- s
			}()
		}
		one, two := <-made, <-made
		if one.ID != two.ID || one.State != sessions.Active || one.Generation != 1 || two.State != sessions.Active {
			t.Errorf("one request twice at once: %+v and %+v", one, two)
		}
		probes := m.engine.probes
		defer func() {
			if m.engine.probes != probes+1 { // Bob's
				t.Errorf("%d probes for sessions that are active", m.engine.probes-probes-1)
			}
		}()
		for name, r := range map[string]sessions.CreateRequest{"nameless": {RequestID: "x"}, "same": {Name: "a", Cluster: "c", RequestID: "x"}} {
			if s, err := m.Create(t.Context(), ann, r); err != nil || s.ID != one.ID {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		}
		var invalid *sessions.InvalidError
		if _, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: "b", RequestID: "x"}); !errors.As(err, &invalid) || invalid.Field != "request_id" {
			t.Errorf("a request id used for another session: %v", err)
		}
		if s, err := m.Create(t.Context(), bob, sessions.CreateRequest{Name: "a", RequestID: "x"}); err != nil || s.ID == one.ID {
			t.Errorf("somebody else's request id: %+v, %v", s, err)
		}
	})
}

// The same request again asks for the same session, in all that it chose; what it leaves
// to the cluster may be otherwise by then.
func TestCreateAgainWithOtherOptions(t *testing.T) {
	hour, two := time.Hour, 2*time.Hour
	request := func(change func(*sessions.CreateRequest)) sessions.CreateRequest {
		r := sessions.CreateRequest{RequestID: "x", Options: sessions.Options{
			Catalog: "lake", Database: "shop", Conf: map[string]string{"a": "1", "b": "2"}, IdleTimeout: &hour, MaxAge: hour, Labels: map[string]string{"team": "risk"},
		}}
		change(&r)
		return r
	}
	m := newManager(t)
	first, err := m.Create(t.Context(), ann, request(func(*sessions.CreateRequest) {}))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*sessions.CreateRequest)
		same   bool
	}{
		"nothing":           {func(*sessions.CreateRequest) {}, true},
		"times not chosen":  {func(r *sessions.CreateRequest) { r.IdleTimeout, r.MaxAge = nil, 0 }, true},
		"less than kept":    {func(r *sessions.CreateRequest) { r.MaxAge += time.Microsecond }, true},
		"another catalog":   {func(r *sessions.CreateRequest) { r.Catalog = "sea" }, false},
		"no catalog":        {func(r *sessions.CreateRequest) { r.Catalog = "" }, false},
		"another database":  {func(r *sessions.CreateRequest) { r.Database = "yard" }, false},
		"a value of conf":   {func(r *sessions.CreateRequest) { r.Conf["a"] = "2" }, false},
		"less conf":         {func(r *sessions.CreateRequest) { delete(r.Conf, "b") }, false},
		"no conf":           {func(r *sessions.CreateRequest) { r.Conf = nil }, false},
		"another idle time": {func(r *sessions.CreateRequest) { r.IdleTimeout = &two }, false},
		"another age":       {func(r *sessions.CreateRequest) { r.MaxAge = two }, false},
		"another label":     {func(r *sessions.CreateRequest) { r.Labels["stage"] = "test" }, false},
		"no labels":         {func(r *sessions.CreateRequest) { r.Labels = nil }, false},
	} {
		s, err := m.Create(t.Context(), ann, request(c.change))
		var invalid *sessions.InvalidError
		if c.same && (err != nil || s.ID != first.ID) || !c.same && (!errors.As(err, &invalid) || invalid.Field != "request_id") {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestClosedWhileItWasMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.engine.set(errors.New("not up yet"))
		time.AfterFunc(5*time.Second, func() {
			page, err := m.List(t.Context(), ann, sessions.ListRequest{Name: "a"})
			if err != nil || len(page.Sessions) != 1 {
				t.Errorf("listed %+v, %v", page, err)
				return
			}
			if _, err := m.Close(t.Context(), ann, page.Sessions[0].ID); err != nil {
				t.Error(err)
			}
			m.engine.set(nil)
		})
		if _, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: "a"}); !errors.Is(err, sessions.ErrClosed) {
			t.Errorf("error %v", err)
		}
	})
}

func TestCreateRefuses(t *testing.T) {
	m := newManager(t)
	m.create(t, ann, "taken")
	for _, c := range []struct {
		name string
		r    sessions.CreateRequest
		want error
	}{
		{"name too long", sessions.CreateRequest{Name: strings.Repeat("n", 65)}, &sessions.InvalidError{Field: "name"}},
		{"name with a slash", sessions.CreateRequest{Name: "a/b"}, &sessions.InvalidError{Field: "name"}},
		{"name with a letter that is not ASCII", sessions.CreateRequest{Name: "é"}, &sessions.InvalidError{Field: "name"}},
		{"name of spaces", sessions.CreateRequest{Name: " "}, &sessions.InvalidError{Field: "name"}},
		{"name ends with a space", sessions.CreateRequest{Name: "a "}, &sessions.InvalidError{Field: "name"}},
		{"request id with a space", sessions.CreateRequest{RequestID: "a b"}, &sessions.InvalidError{Field: "request_id"}},
		{"request id too long", sessions.CreateRequest{RequestID: strings.Repeat("n", 65)}, &sessions.InvalidError{Field: "request_id"}},
		{"no such cluster", sessions.CreateRequest{Cluster: "none"}, sessions.ErrNoCluster},
		{"name taken", sessions.CreateRequest{Name: "taken"}, sessions.ErrNameTaken},
	} {
		_, err := m.Create(t.Context(), ann, c.r)
		var want, got *sessions.InvalidError
		if errors.As(c.want, &want) {
			if !errors.As(err, &got) || got.Field != want.Field {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	longest := strings.Repeat("n", 60) + " -_9"
	if s := m.create(t, ann, longest); s.Name != longest {
		t.Errorf("made %+v", s)
	}
}

// A session that may not have an engine is not left behind: its name and the request's
// next try are free.
func TestCreatePastTheEngineLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cs, err := sessions.NewClusters([]sessions.Cluster{{Name: "c", Launcher: newLauncher()}})
		if err != nil {
			t.Fatal(err)
		}
		m := newManagerOn(t, cs)
		m.memory.LimitEngines(1, 0)
		kept := &keptStore{Store: m.Store}
		m.Store = kept
		first := m.create(t, ann, "one")
		var reached *sessions.LimitError
		two := sessions.CreateRequest{Name: "two", RequestID: "request-2"}
		s, err := m.Create(t.Context(), ann, two)
		if !errors.As(err, &reached) || reached.Limit != sessions.LimitEnginesPerOwner || s.State != sessions.Closed || s.Reason != "the limit engines_per_owner (1) is reached" {
			t.Errorf("made %+v, %v", s, err)
		}
		if kept.last.To != sessions.Closed || kept.last.Keep != time.Hour {
			t.Errorf("it is kept for %s", kept.last.Keep)
		}
		m.create(t, bob, "two") // whose limit is his own
		if _, err := m.Close(t.Context(), ann, first.ID); err != nil || kept.last.Keep != 0 {
			t.Fatalf("closed for %s, %v", kept.last.Keep, err)
		}
		if _, err := m.memory.LeaveEngine(t.Context(), sessions.EngineKey("session:"+string(first.ID)), first.ID, 1); err != nil {
			t.Fatal(err)
		}
		if s, err := m.Create(t.Context(), ann, two); err != nil || s.State != sessions.Active {
			t.Errorf("made %+v, %v", s, err)
		}
	})
}

// keptStore notes the last transition.
type keptStore struct {
	sessions.Store
	last sessions.Transition
}

func (s *keptStore) Transition(ctx context.Context, id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	s.last = t
	return s.Store.Transition(ctx, id, t)
}

// blind is a registry that cannot be read.
type blind struct{ sessions.Store }

func (blind) Get(context.Context, ...sessions.ID) ([]sessions.Session, error) {
	return nil, sessions.ErrUnavailable
}

// blinks is a registry that does not answer such questions for a moment.
type blinks struct {
	sessions.Store
	until time.Time
}

func (b blinks) Get(ctx context.Context, ids ...sessions.ID) ([]sessions.Session, error) {
	if time.Now().Before(b.until) {
		return nil, sessions.ErrUnavailable
	}
	return b.Store.Get(ctx, ids...)
}

// A registry that is away for a moment just then costs the caller nothing but that.
func TestCreateReadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.Store = blinks{m.memory, time.Now().Add(4 * time.Second)}
		if s, err := m.Create(t.Context(), ann, sessions.CreateRequest{Cluster: "c"}); err != nil || s.State != sessions.Active {
			t.Errorf("created %+v, %v", s, err)
		}
	})
}

// A session that was made, and then could not be read, is there for the same request: its
// caller is to come again, and is not told of a conflict, at which he would give up.
func TestCreateThatCannotReadWhatItMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		m.Store = blind{m.memory}
		request := sessions.CreateRequest{Cluster: "c", RequestID: "r"}
		if s, err := m.Create(t.Context(), ann, request); !errors.Is(err, sessions.ErrUnavailable) || errors.Is(err, sessions.ErrConflict) {
			t.Errorf("created %+v, %v", s, err)
		}
		m.Store = m.memory
		s, err := m.Create(t.Context(), ann, request)
		if err != nil || s.State != sessions.Active || s.Generation != 1 {
			t.Errorf("the same request: %+v, %v", s, err)
		}
	})
}
