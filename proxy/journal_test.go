package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/sessions"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"
)

// fakeJournal writes down what it is told.
type fakeJournal struct {
	mu    sync.Mutex
	told  []string
	heard chan struct{} // gets a token with each word
	fails error         // of Begin and Clone
	loss  string        // what Tell says, once
	held  chan struct{} // Begin and Clone wait for it, where there is one
}

func newFakeJournal() *fakeJournal { return &fakeJournal{heard: make(chan struct{}, 100)} }

func (f *fakeJournal) say(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprintf(format, args...))
	f.heard <- struct{}{}
}

func (f *fakeJournal) Begin(_ context.Context, id sessions.ID, spark sessions.SparkID, e *sessions.Entry) (sessions.Ticket, error) {
	if id != aliceSession || spark != sparkUUID {
		f.say("begin in %s %s", id, spark)
	}
	f.say("begin %s %s", e.Method, e.What)
	f.await()
	return sessions.Ticket{}, f.fails
}

func (f *fakeJournal) Clone(_ context.Context, _ sessions.ID, from, to sessions.SparkID) (sessions.Ticket, error) {
	f.say("clone %s %s", from, to)
	f.await()
	return sessions.Ticket{}, f.fails
}

func (f *fakeJournal) await() {
	if f.held != nil {
		<-f.held
	}
}

func (f *fakeJournal) Settle(_ sessions.Ticket, commit bool) { f.say("settle %v", commit) }

func (f *fakeJournal) Forget(_ sessions.ID, spark sessions.SparkID) { f.say("forget %s", spark) }

func (f *fakeJournal) Tell(context.Context, *sessions.Session, sessions.SparkID, sessions.Carried) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	loss := f.loss
	f.loss = ""
	return loss, f.fails
}

// wait waits for n words and returns them all.
func (f *fakeJournal) wait(t *testing.T, n int) []string {
	t.Helper()
	for range n {
		select {
		case <-f.heard:
		case <-time.After(10 * time.Second):
			t.Fatalf("the journal was told %q, want %d", f.told, n)
		}
	}
	return f.all()
}

func (f *fakeJournal) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

// sparkPlan is an ExecutePlan of a statement in alice's Spark session.
func sparkPlan(sql string) []byte {
	b, err := proto.Marshal(&connect.ExecutePlanRequest{
		SessionId: sparkUUID, OperationId: proto.String(operationID),
		Plan: &connect.Plan{OpType: &connect.Plan_Command{Command: &connect.Command{CommandType: &connect.Command_SqlCommand{
			SqlCommand: &connect.SqlCommand{Sql: sql},
		}}}},
	})
	if err != nil {
		panic(err)
	}
	return grpcFrame(b)
}

func uploadFrames(data ...string) (body []byte) {
	for i, d := range data {
		r := batch(fmt.Sprintf("files/%d=%s", i, d))
		r.SessionId = sparkUUID
		b, err := proto.Marshal(r)
		if err != nil {
			panic(err)
		}
		body = append(body, grpcFrame(b)...)
	}
	return body
}

// launched is a launcher of which nothing is asked.
type launched struct{ sessions.Launcher }

// newJournaled is newRelayed on a cluster whose engines Sconce launches.
func newJournaled(t *testing.T, change func(*RouterConfig)) *relayed {
	t.Helper()
	r := newRelayed(t, change)
	r.cluster.Launcher = launched{}
	return r
}

func TestOverRelayJournal(t *testing.T) {
	status := func(code string) func(*proxytest.Peer, uint32, *relayed, uint32) {
		return func(engine *proxytest.Peer, id uint32, _ *relayed, _ uint32) {
			engine.Headers(id, true, proxytest.Fields(":status", "200", "content-type", "application/grpc", "grpc-status", code)...)
		}
	}
	begin := "begin ExecutePlan the current catalog and database (USE)"
	for _, c := range []struct {
		name, method string
		body         []byte
		then         func(engine *proxytest.Peer, id uint32, r *relayed, client uint32)
		want         []string
	}{
		{"done", "ExecutePlan", sparkPlan("USE d"), status("0"), []string{begin, "settle true"}},
		{"refused by the engine", "ExecutePlan", sparkPlan("USE d"), status("13"), []string{begin, "settle false"}},
		{"cancelled", "ExecutePlan", sparkPlan("USE d"), status("1"), []string{begin}},
		{"the engine goes away", "ExecutePlan", sparkPlan("USE d"), status("14"), []string{begin}},
		{"the stream breaks", "ExecutePlan", sparkPlan("USE d"), func(engine *proxytest.Peer, _ uint32, _ *relayed, _ uint32) { engine.Close() }, []string{begin}},
		{"the token is revoked", "ExecutePlan", sparkPlan("USE d"), func(_ *proxytest.Peer, _ uint32, r *relayed, _ uint32) { r.live.Revoke(aliceSession, "j1") }, []string{begin}},
		{"a query", "ExecutePlan", sparkPlan("SELECT 1"), status("0"), nil},
		{"an upload", "AddArtifacts", uploadFrames("a", "b"), status("0"), []string{"begin AddArtifacts artifacts files/0 to files/1", "settle true"}},
		{"a clone", "CloneSession", grpcFrame(appendText(appendText(nil, 1, sparkUUID), 4, sparkB)), status("13"), []string{"clone " + sparkUUID + " " + sparkB, "settle false"}},
		{"a clone on an engine that has none", "CloneSession", grpcFrame(appendText(appendText(nil, 1, sparkUUID), 4, sparkB)), status("12"), []string{"clone " + sparkUUID + " " + sparkB, "settle false"}},
		{"a release", "ReleaseSession", grpcFrame(appendText(nil, 1, sparkUUID)), status("0"), []string{"forget " + sparkUUID}},
		{"a release that failed", "ReleaseSession", grpcFrame(appendText(nil, 1, sparkUUID)), status("13"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newFakeJournal()
			r := newJournaled(t, func(cfg *RouterConfig) { cfg.Journal = j })
			id := r.call(c.method, c.body)
			engine := r.engine()
			s := engine.Accept()
			if !engine.Response(s.ID).Ended {
				t.Fatal("the engine does not have the request whole")
			}
			for _, word := range j.all() {
				if strings.HasPrefix(word, "settle") || strings.HasPrefix(word, "forget") {
					t.Errorf("told %q before the engine has answered", word)
				}
			}
			c.then(engine, s.ID, r, id)
			r.client.Response(id)
			if got := j.wait(t, len(c.want)); !slices.Equal(got, c.want) {
				t.Errorf("the journal was told %q, want %q", got, c.want)
			}
		})
	}
}

// A client that leaves while its act is being recorded has done nothing, and a wake does
// not do it either.
func TestOverRelayLeftWhileRecording(t *testing.T) {
	clone := grpcFrame(appendText(appendText(nil, 1, sparkUUID), 4, sparkB))
	for name, c := range map[string]struct {
		method string
		body   []byte
	}{"a statement": {"ExecutePlan", sparkPlan("USE d")}, "a clone": {"CloneSession", clone}} {
		t.Run(name, func(t *testing.T) {
			j := newFakeJournal()
			j.held = make(chan struct{})
			r := newJournaled(t, func(cfg *RouterConfig) { cfg.Journal = j })
			id := r.call(c.method, c.body)
			j.wait(t, 1)
			r.client.Reset(id, http2.ErrCodeCancel)
			r.client.Barrier()
			close(j.held)
			if told := j.wait(t, 1); told[1] != "settle false" {
				t.Errorf("the journal was told %q", told)
			}
		})
	}
}

// An act that cannot be recorded does not reach the engine.
func TestActWithoutRegistry(t *testing.T) {
	for method, c := range map[string]struct {
		body   []byte
		reason string
	}{
		"ExecutePlan":  {sparkPlan("USE d"), "REGISTRY_UNAVAILABLE"},
		"AddArtifacts": {uploadFrames("a"), "REGISTRY_UNAVAILABLE"},
		"Config": {grpcFrame(append(appendText(nil, 1, sparkUUID), configOf(&connect.ConfigRequest_Operation{OpType: &connect.ConfigRequest_Operation_Set{
			Set: &connect.ConfigRequest_Set{Pairs: pairs("a")}}})[len(appendText(nil, 1, sparkUUID)):]...)), "REGISTRY_UNAVAILABLE"},
	} {
		t.Run(method, func(t *testing.T) {
			j := newFakeJournal()
			j.fails = sessions.ErrUnavailable
			r := newJournaled(t, func(cfg *RouterConfig) { cfg.Journal, cfg.HoldTimeout = j, 50*time.Millisecond })
			id := r.call(method, c.body)
			if got := r.client.Response(id); reasonOf(t, replyOf(got)) != c.reason {
				t.Errorf("got %+v", got)
			}
			if again := r.reattachIsDenied(t); again != (method == "ExecutePlan") {
				t.Errorf("its operation is told to have never started: %v", again)
			}
		})
	}
}

func TestStateLostIsToldOnce(t *testing.T) {
	j := newFakeJournal()
	j.loss = "temporary view `v` (no)"
	r := newJournaled(t, func(cfg *RouterConfig) { cfg.Journal = j })
	route := aliceRoute(r.cluster).Carry(map[sessions.SparkID]sessions.Carried{sparkUUID: {Notable: true}})
	r.registry.set(aliceSession, route)
	id := r.call("ExecutePlan", sparkPlan("SELECT 1"))
	got := r.client.Response(id)
	if reasonOf(t, replyOf(got)) != "SESSION_STATE_LOST" || !strings.Contains(got.Trailer("grpc-message"), "temporary view 'v' (no)") {
		t.Fatalf("got %+v", got)
	}
	id = r.call("ExecutePlan", sparkPlan("SELECT 1"))
	engine := r.engine()
	s := engine.Accept()
	engine.Response(s.ID)
	answer(engine, s.ID, []byte("ok"))
	if got := r.client.Response(id); got.Trailer("grpc-status") != "0" {
		t.Errorf("the second: %+v", got)
	}
}

// What a request of another method needs is not refused: only a query is told.
func TestStateLostLeavesOthersAlone(t *testing.T) {
	j := newFakeJournal()
	j.loss = "everything"
	r := newJournaled(t, func(cfg *RouterConfig) { cfg.Journal = j })
	r.registry.set(aliceSession, aliceRoute(r.cluster).Carry(map[sessions.SparkID]sessions.Carried{sparkUUID: {Notable: true}}))
	id := r.call("ReleaseSession", grpcFrame(appendText(nil, 1, sparkUUID)))
	engine := r.engine()
	s := engine.Accept()
	engine.Response(s.ID)
	answer(engine, s.ID, []byte("ok"))
	if got := r.client.Response(id); got.Trailer("grpc-status") != "0" {
		t.Errorf("got %+v", got)
	}
}
