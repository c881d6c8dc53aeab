package sessions_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

// On a draining cluster no engine is launched, on any replica, for whatever reason a
// session wakes; what is active goes on, and so does what joins an engine that is up.
// Resume ends that at once.
func TestDrainStartsNoEngine(t *testing.T) {
	inLife(t, sessions.IsolateSession, func(t *testing.T, l *life) {
		a, b := l.replica(), l.replica()
		active, idle, ended, fresh := l.pending("c"), l.pending("c"), l.pending("c"), l.pending("c")
		for _, s := range []sessions.Session{active, idle, ended} {
			a.lookup(t, s.ID)
		}
		l.launcher.kill("engine-3")
		keep := a.lookup(t, active.ID)
		keep.StreamOpened()
		time.Sleep(2 * idleAfter)
		l.state(idle.ID, sessions.Idle)
		l.state(ended.ID, sessions.Failed)

		if err := l.memory.Drain(t.Context(), "c", sessions.Drain{At: time.Now(), Reason: "new disks"}); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*gateway{a, b} {
			for _, s := range []sessions.Session{idle, ended, fresh} {
				_, err := r.resolver.Lookup(t.Context(), s.ID)
				var drain *sessions.DrainError
				if !errors.As(err, &drain) || *drain != (sessions.DrainError{Cluster: "c", Reason: "new disks"}) {
					t.Errorf("woke: %v", err)
				}
				if now := l.get(s.ID); now.WakeFailure != "cluster c is draining: new disks" {
					t.Errorf("its record says %q", now.WakeFailure)
				}
			}
			r.lookup(t, active.ID)
		}
		l.engines(3, 1)
		time.Sleep(2 * idleAfter)
		l.state(active.ID, sessions.Active)
		a.lookup(t, l.pending("static").ID) // another cluster

		if err := l.memory.Resume(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		for i, s := range []sessions.Session{idle, ended, fresh} { // without the pause that follows a failure
			[]*gateway{a, b, b}[i].lookup(t, s.ID)
		}
		keep.StreamEnded()
	})
	inLife(t, sessions.IsolateNone, func(t *testing.T, l *life) {
		a := l.replica()
		a.lookup(t, l.pending("c").ID)
		for _, name := range []string{"c", "static"} {
			if err := l.memory.Drain(t.Context(), name, sessions.Drain{}); err != nil {
				t.Fatal(err)
			}
			a.lookup(t, l.pending(name).ID)
		}
		l.engines(1, 1)
	})
}

// clustersTest is a manager of a launched cluster and of an address.
func clustersTest(t *testing.T) (*managerTest, *launcher) {
	t.Helper()
	l := newLauncher()
	l.says = "4.1.0"
	cs, err := sessions.NewClusters([]sessions.Cluster{
		{Name: "c", Launcher: l, Policy: sessions.ClusterPolicy{IdleTimeout: time.Minute}}, {Name: "a", Address: "127.0.0.1:1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := newManagerOn(t, cs)
	m.Operators = []sessions.Operator{{Org: "acme", Subject: "op"}, {Org: "ops"}}
	return m, l
}

// Who may drain: those that the configuration names. An admin of an organisation is
// none of them by that.
func TestOperators(t *testing.T) {
	m, _ := clustersTest(t)
	for who, c := range map[string]struct {
		actor sessions.Actor
		may   bool
	}{
		"a named subject":         {sessions.Actor{Subject: "op", Org: "acme"}, true},
		"an admin of ops":         {sessions.Actor{Subject: "x", Org: "ops", Admin: true}, true},
		"somebody of ops":         {sessions.Actor{Subject: "x", Org: "ops"}, false},
		"the name, another place": {sessions.Actor{Subject: "op", Org: "other", Admin: true}, false},
		"an admin of acme":        {admin, false},
		"who says it":             {sessions.Actor{Subject: "ann", Org: "acme", Operator: true}, false},
		"nobody of ops":           {sessions.Actor{Org: "ops", Admin: true}, false},
	} {
		_, drain := m.DrainCluster(t.Context(), c.actor, "a", "")
		_, resume := m.ResumeCluster(t.Context(), c.actor, "a")
		_, none := m.DrainCluster(t.Context(), c.actor, "none", "")
		for what, err := range map[string]error{"drain": drain, "resume": resume} {
			if c.may && err != nil || !c.may && !errors.Is(err, sessions.ErrDenied) {
				t.Errorf("%s by %s: %v", what, who, err)
			}
		}
		if want := map[bool]error{true: sessions.ErrNoCluster, false: sessions.ErrDenied}[c.may]; !errors.Is(none, want) {
			t.Errorf("drain of none by %s: %v", who, none)
		}
	}
	for _, who := range []sessions.Actor{ann, annsTwin} {
		if list, err := m.ListClusters(t.Context(), who); err != nil || len(list) != 2 {
			t.Errorf("%v, %v", list, err)
		}
	}
	_, list := m.ListClusters(t.Context(), nobody)
	_, describe := m.DescribeCluster(t.Context(), nobody, "a")
	if !errors.Is(list, sessions.ErrDenied) || !errors.Is(describe, sessions.ErrDenied) {
		t.Errorf("nobody is told: %v, %v", list, describe)
	}
	if n := m.log.FilterMessage("audit").FilterField(zap.String("cluster", "a")).Len(); n != 4 {
		t.Errorf("%d audit lines name the cluster, want 4", n)
	}
}

// No session is created on a cluster that is draining, and nothing of it is left.
func TestCreateOnADrainingCluster(t *testing.T) {
	m, _ := clustersTest(t)
	op := sessions.Actor{Subject: "op", Org: "acme"}
	for _, name := range []string{"a", "c"} {
		was, err := m.DrainCluster(t.Context(), op, name, "new disks")
		if err != nil || was.State != sessions.ClusterDraining || was.Reason != "new disks" || was.DrainedAt.IsZero() {
			t.Errorf("drained: %+v, %v", was, err)
		}
		again, err := m.DrainCluster(t.Context(), op, name, "old disks")
		if err != nil || again.Reason != "new disks" || !again.DrainedAt.Equal(was.DrainedAt) {
			t.Errorf("drained again: %+v, %v", again, err)
		}
		_, err = m.Create(t.Context(), ann, sessions.CreateRequest{Name: "n", Cluster: name})
		var drain *sessions.DrainError
		if !errors.As(err, &drain) || *drain != (sessions.DrainError{Cluster: name, Reason: "new disks"}) {
			t.Errorf("created: %v", err)
		}
	}
	page, err := m.List(t.Context(), ann, sessions.ListRequest{Closed: true})
	if err != nil || len(page.Sessions) != 0 {
		t.Errorf("left behind: %+v, %v", page.Sessions, err)
	}
	if now, err := m.ResumeCluster(t.Context(), op, "a"); err != nil || now.State != sessions.ClusterActive || now.Reason != "" || !now.DrainedAt.IsZero() {
		t.Errorf("resumed: %+v, %v", now, err)
	}
	if _, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: "n", Cluster: "a"}); err != nil {
		t.Error(err)
	}
	for _, reason := range []string{strings.Repeat("é", 201), "a\nb", "\x1b[2J", "\xff"} {
		var invalid *sessions.InvalidError
		if _, err := m.DrainCluster(t.Context(), op, "a", reason); !errors.As(err, &invalid) {
			t.Errorf("reason %q: %v", reason, err)
		}
	}
	if _, err := m.DrainCluster(t.Context(), op, "a", strings.Repeat("é", 200)); err != nil {
		t.Error(err)
	}
}

// What is said of clusters: the engines that are up and who is on them, those that
// stand by, and whether an address answers, for which it is asked now and then.
func TestClusterStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := clustersTest(t)
		l.running["spare"] = sessions.Launched{Instance: sessions.Instance{ID: "spare"}}
		for i := range 2 {
			if i == 1 {
				l.says = ""
			}
			if _, err := m.Create(t.Context(), ann, sessions.CreateRequest{Cluster: "c"}); err != nil {
				t.Fatal(err)
			}
		}
		list, err := m.ListClusters(t.Context(), bob)
		if err != nil || len(list) != 2 || list[0].Cluster.Name != "a" || list[0].State != sessions.ClusterActive {
			t.Fatalf("%+v, %v", list, err)
		}
		c := list[1]
		if c.State != sessions.ClusterActive || c.Engines["4.1.0"] != 1 || c.Engines[""] != 1 || c.Sessions != 2 || c.Standing != 1 {
			t.Errorf("launched: %+v", c)
		}
		m.engine.set(errors.New("no"))
		probes := m.engine.probes
		state := func(want sessions.ClusterState) {
			t.Helper()
			got, err := m.DescribeCluster(t.Context(), bob, "a")
			if err != nil || got.State != want || (got.Reason == "") != (want == sessions.ClusterActive) || strings.Contains(got.Reason, "127.0.0.1") {
				t.Errorf("%+v, %v; want %s", got, err, want)
			}
		}
		state(sessions.ClusterActive) // as it was a moment ago
		time.Sleep(6 * time.Second)
		for range 3 {
			state(sessions.ClusterUnreachable)
		}
		if n := m.engine.probes - probes; n != 1 {
			t.Errorf("probed %d times", n)
		}
	})
}

// A registry that is away is no reason to believe that nothing drains.
func TestDrainsAreNotKnown(t *testing.T) {
	m, _ := clustersTest(t)
	m.memory.Fail(sessions.ErrUnavailable)
	_, create := m.Create(t.Context(), ann, sessions.CreateRequest{Cluster: "a"})
	_, list := m.ListClusters(t.Context(), ann)
	if !errors.Is(create, sessions.ErrUnavailable) || !errors.Is(list, sessions.ErrUnavailable) {
		t.Errorf("created: %v, listed: %v", create, list)
	}
}

// blindStore does not say which engines are up.
type blindStore struct{ sessions.WakeStore }

func (blindStore) Engines(context.Context) ([]sessions.EngineRecord, error) {
	return nil, sessions.ErrUnavailable
}

// A drain and a resume that are done are told so, whatever comes after.
func TestDrainIsToldThoughNothingElseIs(t *testing.T) {
	m, _ := clustersTest(t)
	op, seeing := sessions.Actor{Subject: "op", Org: "acme"}, m.Waker.Store
	m.Waker.Store = blindStore{seeing}
	s, err := m.DrainCluster(t.Context(), op, "a", "new disks")
	if err != nil || s.State != sessions.ClusterDraining || s.Cluster == nil || s.Cluster.Name != "a" {
		t.Errorf("drained: %+v, %v", s, err)
	}
	if drains, err := seeing.Draining(t.Context()); err != nil || drains["a"].Reason != "new disks" {
		t.Errorf("draining: %v, %v", drains, err)
	}
	if s, err = m.ResumeCluster(t.Context(), op, "a"); err != nil || s.State != sessions.ClusterActive {
		t.Errorf("resumed: %+v, %v", s, err)
	}
	if drains, err := seeing.Draining(t.Context()); err != nil || len(drains) != 0 {
		t.Errorf("draining: %v, %v", drains, err)
	}
	if _, err := m.DescribeCluster(t.Context(), op, "a"); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("described: %v", err)
	}
	m.memory.Fail(sessions.ErrUnavailable)
	if _, err := m.DrainCluster(t.Context(), op, "a", ""); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("a drain that was not done: %v", err)
	}
	if n := m.log.FilterMessage("audit").FilterField(zap.String("outcome", "done")).FilterField(zap.String("cluster", "a")).Len(); n != 2 {
		t.Errorf("%d audit lines say done, want 2", n)
	}
}

func TestClusterUI(t *testing.T) {
	const at = "http://127.0.0.1:4041"
	for name, tc := range map[string]struct {
		url    string
		engine *sessions.Instance
		state  sessions.State
		want   string
	}{
		"as the engine says":       {"", &sessions.Instance{ID: "c-1", UI: at}, sessions.Active, at},
		"an engine without":        {"", &sessions.Instance{ID: "c-1"}, sessions.Active, ""},
		"an address without":       {"", nil, sessions.Active, ""},
		"filled in":                {"https://ui/{session}/{engine}?p={port}", &sessions.Instance{ID: "c-1", UI: at}, sessions.Active, "https://ui/s-1/c-1?p=4041"},
		"no port to fill in":       {"https://ui/{port}", &sessions.Instance{ID: "c-1"}, sessions.Active, ""},
		"of an address":            {"https://ui/", nil, sessions.Active, "https://ui/"},
		"the engine is away":       {"https://ui/{engine}", &sessions.Instance{ID: "c-1", UI: at}, sessions.Idle, ""},
		"of an engine that closed": {"", &sessions.Instance{ID: "c-1", UI: at}, sessions.Closed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			clusters := sessions.Clusters{"c": {Name: "c", UIURL: tc.url}}
			if got := clusters.UI(sessions.Session{ID: "s-1", Cluster: "c", State: tc.state, Engine: tc.engine}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if got := (sessions.Clusters{}).UI(sessions.Session{Cluster: "gone", State: sessions.Active}); got != "" {
		t.Errorf("of a cluster that is no more: %q", got)
	}
}
