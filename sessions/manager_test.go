package sessions_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

var (
	ann   = sessions.Actor{Subject: "ann", Org: "acme", RequestID: "r-1"}
	bob   = sessions.Actor{Subject: "bob", Org: "acme"}
	admin = sessions.Actor{Subject: "root", Org: "acme", Admin: true}
	// annsTwin has Ann's name and a power that ends at another organisation.
	annsTwin = sessions.Actor{Subject: "ann", Org: "other", Admin: true}
	nobody   = sessions.Actor{}
)

// engine is a cluster that answers as it is told, and counts.
type engine struct {
	mu       sync.Mutex
	answer   error
	probes   int
	releases int
	released []string
	prepared []string
	asked    []string // addresses at which Version was
	version  string
	silent   error // the answer to Version, beside answer
	setup    error // the answer to Prepare
	hang     bool  // releases have no answer
}

func (e *engine) Probe(context.Context, *sessions.Cluster) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.probes++
	return e.answer
}

func (e *engine) Version(_ context.Context, c *sessions.Cluster) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, c.Address)
	return e.version, cmp.Or(e.answer, e.silent)
}

func (e *engine) Prepare(_ context.Context, c *sessions.Cluster, s sessions.Session, spark sessions.SparkID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.prepared = append(e.prepared, fmt.Sprint(c.Name, " ", s.Catalog, " ", spark))
	return e.setup
}

func (e *engine) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = err
}

func (e *engine) Release(ctx context.Context, c *sessions.Cluster, user string, ids []sessions.SparkID) error {
	e.mu.Lock()
	hang := e.hang
	e.releases++
	e.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		e.released = append(e.released, fmt.Sprint(c.Name, " ", user, " ", id))
	}
	return e.answer
}

type managerTest struct {
	*sessions.Manager
	memory *storetest.Memory
	engine *engine
	log    *observer.ObservedLogs
	tokens *auth.Verifier
}

func newManager(t *testing.T) *managerTest {
	t.Helper()
	return newManagerOn(t, clusters(t))
}

// newManagerOn is newManager with clusters of the test's own.
func newManagerOn(t *testing.T, cs sessions.Clusters) *managerTest {
	t.Helper()
	key, err := auth.GenerateSigningKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := auth.NewIssuer(auth.IssuerConfig{Key: key, Issuer: "sconce"})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewKeySet(auth.KeySetConfig{Own: []*auth.SigningKey{key}})
	if err != nil {
		t.Fatal(err)
	}
	m := &managerTest{memory: storetest.NewMemory(), engine: &engine{}}
	if m.tokens, err = auth.NewVerifier(auth.VerifierConfig{Keys: keys, Issuer: "sconce"}); err != nil {
		t.Fatal(err)
	}
	core, log := observer.New(zap.DebugLevel)
	m.log = log
	waker, err := sessions.NewWaker(sessions.WakerConfig{Store: m.memory, Engine: m.engine, Clusters: cs, Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(waker.Close)
	m.Manager, err = sessions.NewManager(sessions.ManagerConfig{
		Store: m.memory, Tokens: m.memory, Keys: m.memory, Engine: m.engine, Issuer: issuer, Waker: waker, Clusters: cs, Logger: zap.New(core),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *managerTest) create(t *testing.T, a sessions.Actor, name string) sessions.Session {
	t.Helper()
	s, err := m.Create(t.Context(), a, sessions.CreateRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Who may do what with Ann's session. A session that does not exist is denied to
// everybody in the same way.
func TestPolicy(t *testing.T) {
	m := newManager(t)
	anns, none := m.create(t, ann, "a").ID, newID(t)
	operations := map[string]func(sessions.Actor, sessions.ID) error{
		"describe": func(a sessions.Actor, id sessions.ID) error { _, err := m.Describe(t.Context(), a, id); return err },
		"issue": func(a sessions.Actor, id sessions.ID) error {
			_, _, err := m.IssueToken(t.Context(), a, id, sessions.TokenRequest{})
			return err
		},
		"list tokens": func(a sessions.Actor, id sessions.ID) error { _, err := m.ListTokens(t.Context(), a, id); return err },
		"revoke": func(a sessions.Actor, id sessions.ID) error {
			_, err := m.RevokeTokens(t.Context(), a, id, nil, true)
			return err
		},
		"close": func(a sessions.Actor, id sessions.ID) error { _, err := m.Close(t.Context(), a, id); return err },
	}
	for _, name := range []string{"describe", "issue", "list tokens", "revoke", "close"} {
		do := operations[name]
		for who, a := range map[string]sessions.Actor{"a colleague": bob, "her twin elsewhere": annsTwin, "nobody": nobody, "an admin of nothing": {Subject: "x", Admin: true}} {
			there, notThere := do(a, anns), do(a, none)
			if !errors.Is(there, sessions.ErrDenied) || !errors.Is(notThere, sessions.ErrDenied) || there.Error() != notThere.Error() {
				t.Errorf("%s by %s: %v, and of none: %v", name, who, there, notThere)
			}
		}
		if err := do(ann, none); !errors.Is(err, sessions.ErrDenied) {
			t.Errorf("%s of none by its owner: %v", name, err)
		}
		for who, a := range map[string]sessions.Actor{"its owner": ann, "an admin": admin} {
			if err := do(a, anns); err != nil {
				t.Errorf("%s by %s: %v", name, who, err)
			}
		}
	}
	if (sessions.Actor{Subject: "ann"}).MayTouch(sessions.Session{Owner: "ann"}) {
		t.Error("an actor without an organisation touches a session without one")
	}
	if _, err := m.Create(t.Context(), nobody, sessions.CreateRequest{}); !errors.Is(err, sessions.ErrDenied) {
		t.Errorf("create by nobody: %v", err)
	}
}

func TestList(t *testing.T) {
	m := newManager(t)
	clock := time.Now()
	m.Now = func() time.Time { clock = clock.Add(time.Millisecond); return clock } // ids of one millisecond have no order
	first, bobs, last := m.create(t, ann, "a").ID, m.create(t, bob, "a").ID, m.create(t, ann, "b").ID
	closed := m.create(t, ann, "c").ID
	if _, err := m.Close(t.Context(), ann, closed); err != nil {
		t.Fatal(err)
	}
	m.create(t, annsTwin, "a")
	for _, c := range []struct {
		name string
		a    sessions.Actor
		r    sessions.ListRequest
		want []sessions.ID
		err  error
	}{
		{"one's own", ann, sessions.ListRequest{}, []sessions.ID{last, first}, nil},
		{"one's own, closed too", ann, sessions.ListRequest{Closed: true}, []sessions.ID{closed, last, first}, nil},
		{"a page", ann, sessions.ListRequest{Size: 1}, []sessions.ID{last}, nil},
		{"the next page", ann, sessions.ListRequest{Size: 1, After: last}, []sessions.ID{first}, nil},
		{"a name", ann, sessions.ListRequest{Name: "a"}, []sessions.ID{first}, nil},
		{"an admin's own", admin, sessions.ListRequest{}, nil, nil},
		{"the organisation", admin, sessions.ListRequest{Org: true}, []sessions.ID{last, bobs, first}, nil},
		{"the organisation, by no admin", ann, sessions.ListRequest{Org: true}, nil, sessions.ErrDenied},
		{"by nobody", nobody, sessions.ListRequest{}, nil, sessions.ErrDenied},
	} {
		page, err := m.List(t.Context(), c.a, c.r)
		var got []sessions.ID
		for _, s := range page.Sessions {
			got = append(got, s.ID)
		}
		if !errors.Is(err, c.err) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v %v, want %v %v", c.name, got, err, c.want, c.err)
		}
	}
	for i := range 600 {
		m.memory.Put(sessions.Session{ID: newID(t), Name: fmt.Sprint(i), Owner: "eve", Org: "acme", State: sessions.Active})
	}
	for size, want := range map[int]int{0: 50, 7: 7, 500: 500, 501: 500, 1 << 30: 500} {
		page, err := m.List(t.Context(), sessions.Actor{Subject: "eve", Org: "acme"}, sessions.ListRequest{Size: size})
		if err != nil || len(page.Sessions) != want {
			t.Errorf("a page of %d has %d, want %d: %v", size, len(page.Sessions), want, err)
		}
	}
	for name, r := range map[string]sessions.ListRequest{"page_size": {Size: -1}, "page_token": {After: "x"}, "name": {Org: true, Name: "a"}} {
		var invalid *sessions.InvalidError
		if _, err := m.List(t.Context(), admin, r); !errors.As(err, &invalid) || invalid.Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who was killed while it woke a session is not said to be at it for ever.
func TestStageWithoutItsWaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		s := m.create(t, ann, "a")
		if err := m.memory.SetStage(t.Context(), s.ID, "starting the engine", ""); err != nil {
			t.Fatal(err)
		}
		want := func(stage string) {
			t.Helper()
			list, err := m.List(t.Context(), ann, sessions.ListRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range append(list.Sessions, m.describe(t, s.ID)) {
				if s.Stage != stage || s.StageAt.IsZero() != (stage == "") {
					t.Errorf("stage %q since %s, want %q", s.Stage, s.StageAt, stage)
				}
			}
		}
		time.Sleep(4 * time.Minute)
		want("starting the engine")
		time.Sleep(2 * time.Minute)
		want("")
	})
}

func TestIssueToken(t *testing.T) {
	m := newManager(t)
	s := m.create(t, ann, "a")
	for _, c := range []struct {
		name     string
		asked    time.Duration
		lifetime time.Duration
		ok       bool
	}{
		{"as usual", 0, time.Hour, true},
		{"a minute", time.Minute, time.Minute, true},
		{"the longest", 24 * time.Hour, 24 * time.Hour, true},
		{"longer", 24*time.Hour + time.Second, 0, false},
		{"negative", -time.Hour, 0, false},
		{"too short", time.Millisecond, 0, false},
	} {
		token, what, err := m.IssueToken(t.Context(), admin, s.ID, sessions.TokenRequest{Lifetime: c.asked})
		var invalid *sessions.InvalidError
		if !c.ok {
			if !errors.As(err, &invalid) || token != "" || what != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || what.Expires.Sub(what.IssuedAt) != c.lifetime {
			t.Errorf("%s: %+v, %v", c.name, what, err)
			continue
		}
		got, err := m.tokens.Verify(token, auth.KindSession)
		if err != nil || got.Subject != "ann" || got.Org != "acme" || got.Session != string(s.ID) || got.Admin {
			t.Errorf("%s: the token says %+v, %v", c.name, got, err)
		}
	}
	failed, _ := m.memory.Transition(t.Context(), s.ID, sessions.Transition{From: sessions.Active, Generation: 1, To: sessions.Failed, Reason: "lost", At: time.Now()})
	var why *sessions.FailedError
	if _, _, err := m.IssueToken(t.Context(), ann, failed.ID, sessions.TokenRequest{}); !errors.As(err, &why) || !errors.Is(err, sessions.ErrFailed) || why.Session != failed.ID || why.Reason != "lost" {
		t.Errorf("for a failed session: %v", err)
	}
	if _, err := m.Close(t.Context(), ann, s.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.IssueToken(t.Context(), ann, s.ID, sessions.TokenRequest{}); !errors.Is(err, sessions.ErrClosed) {
		t.Errorf("for a closed session: %v", err)
	}
}

// A session that failed and whose next query wakes it has tokens like any other.
func TestIssueTokenForAFailedSession(t *testing.T) {
	for _, never := range []bool{false, true} {
		cs, err := sessions.NewClusters([]sessions.Cluster{{Name: "c", Launcher: newLauncher(), NeverRestart: never}})
		if err != nil {
			t.Fatal(err)
		}
		m := newManagerOn(t, cs)
		s := m.create(t, ann, "a")
		if _, err := m.memory.Transition(t.Context(), s.ID, sessions.Transition{
			From: sessions.Active, Generation: s.Generation, To: sessions.Failed, Reason: "its engine has ended", At: time.Now(),
		}); err != nil {
			t.Fatal(err)
		}
		token, _, err := m.IssueToken(t.Context(), ann, s.ID, sessions.TokenRequest{})
		if refused := errors.Is(err, sessions.ErrFailed); refused != never || refused == (token != "") {
			t.Errorf("its cluster never restarts: %v; %v", never, err)
		}
	}
}

// Every operation, allowed or not, leaves one line, and no line holds a token.
func TestAudit(t *testing.T) {
	m := newManager(t)
	s := m.create(t, ann, "a")
	token, what, err := m.IssueToken(t.Context(), ann, s.ID, sessions.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = m.Describe(t.Context(), bob, s.ID)
	_, _ = m.Describe(t.Context(), ann, s.ID)
	_, _ = m.List(t.Context(), ann, sessions.ListRequest{Size: -1})
	_, _ = m.Close(t.Context(), admin, s.ID)
	want := [][]string{ // actor, action, session, outcome, token
		{"ann", "session.create", string(s.ID), "done", ""},
		{"ann", "token.issue", string(s.ID), "done", what.TokenID},
		{"bob", "session.describe", string(s.ID), "denied", ""},
		{"ann", "session.describe", string(s.ID), "done", ""},
		{"ann", "session.list", "", "failed", ""},
		{"root", "session.close", string(s.ID), "done", ""},
	}
	lines := m.log.FilterMessage("audit").All()
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(lines), len(want))
	}
	for i, line := range lines {
		f := line.ContextMap()
		id, _ := f["token_id"].(string)
		if got := []string{f["actor"].(string), f["action"].(string), f["session"].(string), f["outcome"].(string), id}; !slices.Equal(got, want[i]) {
			t.Errorf("line %d: %v, want %v", i, got, want[i])
		}
		if strings.Contains(fmt.Sprint(f), token) {
			t.Errorf("line %d holds the token", i)
		}
		if (f["outcome"] == "done") != (f["reason"] == nil) {
			t.Errorf("line %d: outcome %v, reason %v", i, f["outcome"], f["reason"])
		}
	}
	if id := lines[0].ContextMap()["request_id"]; id != "r-1" {
		t.Errorf("request id %v", id)
	}
}

func TestRegistryAwayIsSaid(t *testing.T) {
	m := newManager(t)
	s := m.create(t, ann, "a")
	m.memory.Fail(sessions.ErrUnavailable)
	_, create := m.Create(t.Context(), ann, sessions.CreateRequest{})
	_, describe := m.Describe(t.Context(), bob, s.ID)
	_, list := m.List(t.Context(), ann, sessions.ListRequest{})
	_, closing := m.Close(t.Context(), ann, s.ID)
	for name, err := range map[string]error{"create": create, "describe": describe, "list": list, "close": closing} {
		if !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewManagerRefuses(t *testing.T) {
	if _, err := sessions.NewManager(sessions.ManagerConfig{}); err == nil {
		t.Error("accepted without parts")
	}
	m := newManager(t)
	m.TokenLifetime, m.MaxTokenLifetime = 2*time.Hour, time.Hour
	if _, err := sessions.NewManager(m.ManagerConfig); err == nil {
		t.Error("accepted a lifetime above its maximum")
	}
}
