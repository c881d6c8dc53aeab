package proxy

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"go.uber.org/zap"
	"golang.org/x/net/http2/hpack"
)

// Who and what the tests of routing are about.
const (
	aliceSession = "s-000000000000000000000alice"
	bobSession   = "s-00000000000000000000000bob"
	aliceToken   = "alice.valid.token"
	bobToken     = "bob.valid.token"
)

// fakeStream records what became of a stream.
type fakeStream struct {
	header *relay.Header
	peer   relay.Peer
	gone   chan struct{}

	mu      sync.Mutex
	backend *relay.Backend
	out     *relay.Header
	call    relay.Call
	reply   *relay.Reply
	resumed int
	decided chan struct{} // gets a token with each decision
}

func newStream(h *relay.Header) *fakeStream {
	return &fakeStream{
		header: h, gone: make(chan struct{}), decided: make(chan struct{}, 100),
		peer: relay.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, TLS: true},
	}
}

func (s *fakeStream) Header() *relay.Header { return s.header }
func (s *fakeStream) Peer() *relay.Peer     { return &s.peer }
func (s *fakeStream) Gone() <-chan struct{} { return s.gone }
func (s *fakeStream) Refuse(r *relay.Reply) { s.Cut(r) }

func (s *fakeStream) Forward(b *relay.Backend, h *relay.Header, call relay.Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backend, s.out, s.call = b, h, call
	s.decided <- struct{}{}
}

func (s *fakeStream) Cut(r *relay.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = r
	s.decided <- struct{}{}
}

func (s *fakeStream) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumed++
	s.decided <- struct{}{}
}

// fakeTokens verifies two tokens, and refuses others with the error they name.
type fakeTokens struct {
	mu    sync.Mutex
	known map[string]*auth.Identity
	fails map[string]error
	// remembered are those that were verified before; nil = none.
	remembered map[string]bool
	verified   int
}

func (f *fakeTokens) Verify(token string, kind auth.Kind) (*auth.Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verified++
	if kind != auth.KindSession {
		return nil, auth.ErrHeader
	}
	if err := f.fails[token]; err != nil {
		return nil, err
	}
	if id := f.known[token]; id != nil {
		return id, nil
	}
	return nil, auth.ErrSignature
}

func (f *fakeTokens) Known(token string, _ auth.Kind) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.remembered[token]
}

func (f *fakeTokens) fail(token string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails[token] = err
}

// fakeRegistry is a Resolver. routes are in its cache; lookup and bind answer
// for the registry.
type fakeRegistry struct {
	mu      sync.Mutex
	routes  map[sessions.ID]*sessions.Route
	lookup  func(ctx context.Context, id sessions.ID) (*sessions.Route, error)
	record  func(s sessions.Session) (sessions.Session, error) // nil: an active one of its owner
	bind    func(ctx context.Context, spark sessions.SparkID) error
	prepare func(ctx context.Context, spark sessions.SparkID) error // nil = bind
	failed  []sessions.ID
	lookups int
	asked   []sessions.ID
}

func (f *fakeRegistry) TryLookup(id sessions.ID) (*sessions.Route, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.routes[id]
	return r, ok
}

func (f *fakeRegistry) Record(_ context.Context, id sessions.ID) (sessions.Session, error) {
	s := sessions.Session{ID: id, Owner: "alice", Org: "acme", State: sessions.Pending}
	if id == bobSession {
		s.Owner = "bob"
	}
	if f.record != nil {
		return f.record(s)
	}
	return s, nil
}

func (f *fakeRegistry) Asleep(s sessions.Session) bool { return s.State == sessions.Idle }

func (f *fakeRegistry) Lookup(ctx context.Context, id sessions.ID) (*sessions.Route, error) {
	f.mu.Lock()
	f.lookups++
	f.asked = append(f.asked, id)
	lookup := f.lookup
	f.mu.Unlock()
	return lookup(ctx, id)
}

func (f *fakeRegistry) ReportFailure(id sessions.ID, _ uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = append(f.failed, id)
}

func (f *fakeRegistry) Bind(ctx context.Context, _ *sessions.Route, spark sessions.SparkID) error {
	return f.bind(ctx, spark)
}

func (f *fakeRegistry) Prepare(ctx context.Context, _ *sessions.Route, spark sessions.SparkID) error {
	if f.prepare != nil {
		return f.prepare(ctx, spark)
	}
	return f.bind(ctx, spark)
}

func (f *fakeRegistry) set(id sessions.ID, r *sessions.Route) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r == nil {
		delete(f.routes, id)
		return
	}
	f.routes[id] = r
}

// testRouter is a Router over fakes.
type testRouter struct {
	*Router
	tokens   *fakeTokens
	registry *fakeRegistry
	cluster  *sessions.Cluster
}

const sparkUUID = "00112233-4455-6677-8899-aabbccddeeff"

func aliceRoute(c *sessions.Cluster) *sessions.Route {
	return sessions.NewRoute(sessions.Session{
		ID: aliceSession, Owner: "alice", Org: "acme", Cluster: c.Name, State: sessions.Active, Generation: 1,
	}, c, sparkUUID)
}

func newTestRouter(tb testing.TB, change func(*RouterConfig)) *testRouter {
	tb.Helper()
	cluster := &sessions.Cluster{Name: "spark", Address: "spark.test:15002", Token: "cluster-secret"}
	tr := &testRouter{
		cluster: cluster,
		tokens: &fakeTokens{fails: map[string]error{}, known: map[string]*auth.Identity{
			aliceToken: {Kind: auth.KindSession, Subject: "alice", Org: "acme", Session: aliceSession, TokenID: "j1"},
			bobToken:   {Kind: auth.KindSession, Subject: "bob", Org: "acme", Session: bobSession, TokenID: "j2"},
		}},
		registry: &fakeRegistry{
			routes: map[sessions.ID]*sessions.Route{aliceSession: aliceRoute(cluster)},
			lookup: func(context.Context, sessions.ID) (*sessions.Route, error) { return nil, sessions.ErrNotFound },
			bind:   func(context.Context, sessions.SparkID) error { return nil },
		},
	}
	cfg := RouterConfig{
		Verifier: tr.tokens, Resolver: tr.registry, Live: NewLive(), Engines: noDial,
		Logger: zap.NewNop(),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if tr.Router, err = NewRouter(cfg); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := tr.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	return tr
}

// noDial makes backends that fail when they are used.
func noDial(c *sessions.Cluster) (*relay.Backend, error) {
	return relay.NewBackend(relay.BackendConfig{
		Name: c.Name,
		Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("no engine in this test") },
	})
}

// head makes a header block from "name: value" lines.
func head(lines ...string) *relay.Header {
	h := &relay.Header{}
	for _, l := range lines {
		i := strings.Index(l[1:], ":") + 1
		h.Fields = append(h.Fields, hpack.HeaderField{Name: l[:i], Value: strings.TrimPrefix(l[i+1:], " ")})
	}
	return h
}

// request is the header block of a PySpark call, with lines of the given names
// replaced, or added at the end; "name:" with nothing behind takes it away.
func sparkHead(method string, change ...string) *relay.Header {
	lines := []string{
		":method: POST", ":scheme: https", ":path: " + sparkService + method, ":authority: sconce.test:8085",
		"te: trailers", "content-type: application/grpc", "user-agent: grpc-python/1.76",
		"grpc-accept-encoding: identity, deflate, gzip",
		"x-session-id: " + aliceSession, "authorization: Bearer " + aliceToken,
	}
	for _, c := range change {
		name := c[:strings.Index(c[1:], ":")+2]
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name) })
	}
	for _, c := range change {
		if !strings.HasSuffix(c, ":") {
			lines = append(lines, c)
		}
	}
	return head(lines...)
}

// send routes one stream and waits for the decision.
func (tr *testRouter) send(h *relay.Header) *fakeStream {
	s := newStream(h)
	tr.route(s)
	<-s.decided
	return s
}

// finish ends a forwarded stream.
func (s *fakeStream) finish(st relay.Stats) {
	s.mu.Lock()
	call := s.call
	s.call = nil
	s.mu.Unlock()
	if call != nil {
		call.Done(st)
	}
}

// never waits that nothing was decided, inside a synctest bubble.
func (s *fakeStream) never(t *testing.T, why string) {
	t.Helper()
	select {
	case <-s.decided:
		t.Fatalf("decided at once: %s", why)
	case <-time.After(time.Millisecond):
	}
}

// noted counts what TokenUses hears.
type noted struct{ uses []string }

func (n *noted) Note(session sessions.ID, token string, at time.Time) {
	n.uses = append(n.uses, string(session)+" "+token+" "+at.UTC().Format("15:04:05"))
}

// However many requests a token lets in on one connection, its use is told once
// a minute.
func TestUsesOfTokensAreToldNowAndThen(t *testing.T) {
	now, heard := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC), &noted{}
	tr := newTestRouter(t, func(c *RouterConfig) { c.Uses, c.Now = heard, func() time.Time { return now } })
	h := sparkHead("Config")
	for range 4 {
		for range 3 {
			tr.send(h).finish(relay.Stats{})
		}
		now = now.Add(25 * time.Second)
	}
	want := []string{aliceSession + " j1 12:00:00", aliceSession + " j1 12:01:15"}
	if !slices.Equal(heard.uses, want) {
		t.Errorf("heard %q, want %q", heard.uses, want)
	}
}
