package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// Config keeps what is set; a key of the name "no..." is refused with its value.
func (s *sparkServer) Config(_ context.Context, r *connect.ConfigRequest) (*connect.ConfigResponse, error) {
	for _, kv := range r.GetOperation().GetSet().GetPairs() {
		if err := s.told(r, "set "+kv.GetKey()+"="+kv.GetValue(), strings.HasPrefix(kv.GetKey(), "no")); err != nil {
			return nil, err
		}
	}
	return &connect.ConfigResponse{SessionId: r.GetSessionId()}, nil
}

func (s *sparkServer) ExecutePlan(r *connect.ExecutePlanRequest, out grpc.ServerStreamingServer[connect.ExecutePlanResponse]) error {
	c := r.GetPlan().GetRoot().GetCatalog()
	name := c.GetSetCurrentCatalog().GetCatalogName() + c.GetSetCurrentDatabase().GetDbName()
	what := "database "
	if c.GetSetCurrentCatalog() != nil {
		what = "catalog "
	}
	if err := s.told(r, what+name, name == "nope"); err != nil {
		return err
	}
	return out.Send(&connect.ExecutePlanResponse{SessionId: r.GetSessionId()})
}

func (s *sparkServer) told(r interface {
	GetSessionId() string
	GetUserContext() *connect.UserContext
}, what string, no bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepared = append(s.prepared, r.GetUserContext().GetUserId()+" "+r.GetSessionId()+" "+what)
	if no {
		return status.Error(codes.Internal, "[NO] cannot "+what+"\tat all\nJVM stacktrace: org.apache.spark")
	}
	return nil
}

const trialSpark = sessions.SparkID("00000000-0000-4000-8000-000000000001")

func TestPrepare(t *testing.T) {
	server := &sparkServer{token: "secret"}
	cluster := server.start(t, insecure.NewCredentials())
	s := sessions.Session{
		ID: "s", Owner: "ann", Cluster: "c", Catalog: "lake-1", Database: "shop.eu-1.2x",
		Conf: sessions.NewPairs(map[string]string{"b": "2", "a": "1"}),
	}
	if err := (sessions.EngineClient{}).Prepare(t.Context(), cluster, s, trialSpark); err != nil {
		t.Fatal(err)
	}
	by := "ann " + string(trialSpark) + " "
	want := []string{by + "set a=1", by + "set b=2", by + "catalog lake-1", by + "database shop.`eu-1`.`2x`"}
	if !slices.Equal(server.prepared, want) {
		t.Errorf("the engine was told %q, want %q", server.prepared, want)
	}
	server.prepared = nil
	if err := (sessions.EngineClient{}).Prepare(t.Context(), &sessions.Cluster{Address: "127.0.0.1:1"}, sessions.Session{}, trialSpark); err != nil {
		t.Errorf("a session that chose nothing: %v", err)
	}
}

func TestPrepareRefused(t *testing.T) {
	server := &sparkServer{token: "secret"}
	cluster := server.start(t, insecure.NewCredentials())
	conf := func(key, value string) sessions.Session {
		return sessions.Session{Conf: sessions.NewPairs(map[string]string{key: value})}
	}
	for name, c := range map[string]struct {
		s             sessions.Session
		what, problem string
	}{
		"a catalog":  {sessions.Session{Catalog: "nope"}, `catalog "nope"`, "[NO] cannot catalog nope at all"},
		"a database": {sessions.Session{Catalog: "lake", Database: "nope"}, `database "nope"`, "[NO] cannot database nope at all"},
		"a key":      {conf("no.a", "1"), `conf "no.a"`, "[NO] cannot set no.a=1 at all"},
		"a secret":   {conf("no.password", "hunter2"), `conf "no.password"`, "the engine does not take it"},
		"a novel":    {conf("no.a", strings.Repeat("x", 400)), `conf "no.a"`, "[NO] cannot set no.a=" + strings.Repeat("x", 279) + "..."},
	} {
		c.s.ID, c.s.Cluster = "s-1", "c"
		err := sessions.EngineClient{}.Prepare(t.Context(), cluster, c.s, trialSpark)
		var setup *sessions.SetupError
		if !errors.As(err, &setup) || setup.What != c.what || setup.Problem != c.problem || setup.Session != "s-1" || setup.Cluster != "c" {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong := *cluster
	wrong.Token = "guess"
	if err := (sessions.EngineClient{}).Prepare(t.Context(), &wrong, conf("a", "1"), trialSpark); !errors.Is(err, sessions.ErrRefused) {
		t.Errorf("a wrong token: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	away := &sessions.Cluster{Name: "c", Address: "127.0.0.1:1"}
	if err := (sessions.EngineClient{}).Prepare(ctx, away, sessions.Session{Catalog: "lake"}, trialSpark); !errors.Is(err, sessions.ErrEngineAway) {
		t.Errorf("nobody there: %v", err)
	}
}

// What the engine does not take makes no session: what is left of it is closed, for an
// hour, with the reason, and its name is free. Nothing of the trial stays.
func TestCreateWithASetupThatWillNotDo(t *testing.T) {
	m := newManager(t)
	m.engine.setup = &sessions.SetupError{Session: "s-1", Cluster: "c", What: `catalog "nope"`, Problem: "not found"}
	request := sessions.CreateRequest{Name: "a", RequestID: "r", Options: sessions.Options{Catalog: "nope"}}
	s, err := m.Create(t.Context(), ann, request)
	var setup *sessions.SetupError
	if !errors.As(err, &setup) || setup.Session != "" || setup.Cluster != "c" || setup.What != `catalog "nope"` || s.State != sessions.Closed || s.Reason != `catalog "nope" cannot be used: not found` {
		t.Errorf("%v, left behind %+v", err, s)
	}
	if len(m.engine.prepared) != 1 || len(m.engine.released) != 1 || !strings.HasSuffix(m.engine.released[0], m.engine.prepared[0][len("c nope "):]) {
		t.Errorf("tried %q, released %q", m.engine.prepared, m.engine.released)
	}
	if plain := m.create(t, ann, "plain"); plain.State != sessions.Active || len(m.engine.prepared) != 1 {
		t.Errorf("a session that chose nothing: %+v, tried %q", plain, m.engine.prepared)
	}
	m.engine.setup = nil
	if again, err := m.Create(t.Context(), ann, request); err != nil || again.State != sessions.Active || again.Name != "a" || again.ID == s.ID {
		t.Errorf("the same request, when the engine has the catalog: %+v, %v", again, err)
	}
	m.engine.setup = fmt.Errorf("x: %w", sessions.ErrEngineAway)
	_, err = m.Create(t.Context(), ann, sessions.CreateRequest{Name: "b", Options: sessions.Options{Catalog: "lake"}})
	if !errors.Is(err, sessions.ErrClusterNotActive) {
		t.Errorf("the engine went away: %v", err)
	}
}

// slowEngine takes its time to prepare.
type slowEngine struct {
	mu    sync.Mutex
	calls int
	err   error
	gate  chan struct{}
}

func (e *slowEngine) Prepare(ctx context.Context, _ *sessions.Cluster, _ sessions.Session, _ sessions.SparkID) error {
	e.mu.Lock()
	e.calls++
	err := e.err
	e.mu.Unlock()
	select {
	case <-e.gate:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Two replicas, many requests: the Spark session is prepared once, all wait for
// it, and then it is bound. What led to nothing is tried again by the next.
func TestSparkSessionsArePreparedOnce(t *testing.T) {
	memory, engine := storetest.NewMemory(), &slowEngine{gate: make(chan struct{}), err: errors.New("no")}
	change := func(c *sessions.ResolverConfig) { c.Engine, c.Turns = engine, memory }
	one, other := newReplica(t, memory, change), newReplica(t, memory, change)
	s := active(t, memory)
	s.Catalog = "lake"
	memory.Put(s)
	spark := sessions.SparkID("00000000-0000-4000-8000-000000000002")
	prepare := func(r *replica) error {
		route, err := r.Lookup(context.Background(), s.ID)
		if err != nil {
			return err
		}
		if err := r.Prepare(context.Background(), route, spark); err != nil {
			return err
		}
		if !route.Bound(spark) {
			return errors.New("it is not bound")
		}
		return nil
	}
	close(engine.gate)
	if err := prepare(one); err == nil {
		t.Error("the engine's no was not heard")
	}
	engine.mu.Lock()
	engine.calls, engine.err, engine.gate = 0, nil, make(chan struct{})
	engine.mu.Unlock()
	answers := make(chan error, 8)
	for i := range cap(answers) {
		go func() { answers <- prepare([]*replica{one, other}[i%2]) }()
	}
	select {
	case err := <-answers:
		t.Fatalf("somebody did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(engine.gate)
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if engine.calls != 1 {
		t.Errorf("prepared %d times", engine.calls)
	}
	late := newReplica(t, memory, change)
	if err := prepare(late); err != nil || engine.calls != 1 {
		t.Errorf("a replica that came later: %v, prepared %d times", err, engine.calls)
	}
}
