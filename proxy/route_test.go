package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

func TestRouterConfigIsChecked(t *testing.T) {
	good := func() RouterConfig {
		return RouterConfig{Verifier: &fakeTokens{}, Resolver: &fakeRegistry{}, Live: NewLive(), Engines: noDial}
	}
	for _, tc := range []struct {
		name   string
		change func(*RouterConfig)
	}{
		{"no verifier", func(c *RouterConfig) { c.Verifier = nil }},
		{"no resolver", func(c *RouterConfig) { c.Resolver = nil }},
		{"no live", func(c *RouterConfig) { c.Live = nil }},
		{"no engines", func(c *RouterConfig) { c.Engines = nil }},
		{"negative hold", func(c *RouterConfig) { c.HoldTimeout = -1 }},
		{"nameless service", func(c *RouterConfig) { c.Services = []Service{{Prefix: "/", Backend: &relay.Backend{}}} }},
		{"service without a backend", func(c *RouterConfig) { c.Services = []Service{{Name: "x", Prefix: "/"}} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := good()
			tc.change(&cfg)
			if _, err := NewRouter(cfg); err == nil {
				t.Error("taken")
			}
		})
	}
	if _, err := NewRouter(good()); err != nil {
		t.Error(err)
	}
}

func TestEveryMethodIsForwarded(t *testing.T) {
	tr := newTestRouter(t, nil)
	for _, m := range []string{
		"ExecutePlan", "AnalyzePlan", "Config", "AddArtifacts", "ArtifactStatus", "Interrupt",
		"ReattachExecute", "ReleaseExecute", "ReleaseSession", "FetchErrorDetails", "CloneSession", "GetStatus",
	} {
		s := tr.send(sparkHead(m))
		if s.backend == nil {
			t.Errorf("%s: refused: %+v", m, s.reply)
		}
		s.finish(relay.Stats{Status: "0"})
	}
}

// A repeated header block is forwarded with the very same outgoing block, whose
// encoding the relay then keeps.
func TestRepeatedBlockSharesItsWork(t *testing.T) {
	tr := newTestRouter(t, nil)
	h := sparkHead("Config")
	first, second := tr.send(h), tr.send(h)
	if first.out == nil || first.out != second.out || first.backend != second.backend {
		t.Errorf("%p %p, %p %p", first.out, second.out, first.backend, second.backend)
	}
	first.finish(relay.Stats{})
	second.finish(relay.Stats{})
}

// What was worked out for a block is no licence: token and session are asked
// for each stream.
func TestRepeatedBlockIsStillChecked(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*testRouter)
		reason string
	}{
		{"token expired", func(tr *testRouter) {
			tr.tokens.fail(aliceToken, &auth.ExpiredError{Expired: time.Now()})
		}, "TOKEN_EXPIRED"},
		{"key removed", func(tr *testRouter) { tr.tokens.fail(aliceToken, auth.ErrUnknownKey) }, "TOKEN_INVALID"},
		{"session closed", func(tr *testRouter) {
			tr.registry.lookup = func(context.Context, sessions.ID) (*sessions.Route, error) { return nil, sessions.ErrClosed }
			tr.registry.set(aliceSession, nil)
		}, "SESSION_CLOSED"},
		{"owner changed", func(tr *testRouter) {
			route := aliceRoute(tr.cluster)
			route.Session.Owner = "bob"
			tr.registry.set(aliceSession, route)
		}, "SESSION_DENIED"},
		{"token now says another user", func(tr *testRouter) {
			id := *tr.tokens.known[aliceToken]
			id.Subject = "mallory"
			tr.tokens.known[aliceToken] = &id
		}, "SESSION_DENIED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			h := sparkHead("Config")
			tr.send(h).finish(relay.Stats{})
			tc.change(tr)
			s := tr.send(h)
			if s.backend != nil || reasonOf(t, s.reply) != tc.reason {
				t.Errorf("got %+v, want %s", s.reply, tc.reason)
			}
		})
	}
}

func TestNewRouteLeadsToItsOwnEngine(t *testing.T) {
	tr := newTestRouter(t, nil)
	h := sparkHead("Config")
	before := tr.send(h)
	moved := &sessions.Cluster{Name: "spark", Address: "elsewhere.test:15002"}
	tr.registry.set(aliceSession, aliceRoute(moved))
	after := tr.send(h)
	if before.backend == after.backend || after.out.Get("authorization") != "" {
		t.Error("the new route was served by the old engine, or with its token")
	}
	before.finish(relay.Stats{})
	after.finish(relay.Stats{})
}

// What the fast path costs beside the one object that every stream needs.
func TestRepeatedBlockAllocatesOneObject(t *testing.T) {
	tr := newTestRouter(t, nil)
	s := &discardStream{header: sparkHead("Config")}
	tr.route(s)
	if s.call == nil {
		t.Fatal("refused")
	}
	s.call.Done(relay.Stats{Status: "0"})
	n := testing.AllocsPerRun(1000, func() {
		tr.route(s)
		s.call.Done(relay.Stats{Status: "0"})
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRoute(b *testing.B) {
	tr := newTestRouter(b, nil)
	s := &discardStream{header: sparkHead("Config")}
	b.ReportAllocs()
	for b.Loop() {
		tr.route(s)
		s.call.Done(relay.Stats{Status: "0"})
	}
}

// BenchmarkRouteFirstBlock is the price of a header block that was not seen
// before, as with a grpc-timeout that differs from call to call.
func BenchmarkRouteFirstBlock(b *testing.B) {
	tr := newTestRouter(b, nil)
	s := &discardStream{header: sparkHead("Config", "grpc-timeout: 599999m")}
	b.ReportAllocs()
	for b.Loop() {
		s.header.Memo = nil
		tr.route(s)
		s.call.Done(relay.Stats{Status: "0"})
	}
}

// discardStream keeps the call of the last Forward and nothing else.
type discardStream struct {
	header *relay.Header
	call   relay.Call
}

func (s *discardStream) Header() *relay.Header                                   { return s.header }
func (s *discardStream) Peer() *relay.Peer                                       { return &relay.Peer{} }
func (s *discardStream) Gone() <-chan struct{}                                   { return nil }
func (s *discardStream) Refuse(*relay.Reply)                                     {}
func (s *discardStream) Cut(*relay.Reply)                                        {}
func (s *discardStream) Resume()                                                 {}
func (s *discardStream) Forward(_ *relay.Backend, _ *relay.Header, c relay.Call) { s.call = c }

func TestServices(t *testing.T) {
	backend := func(name string) *relay.Backend {
		b, err := relay.NewBackend(relay.BackendConfig{Name: name, Dial: dialNowhere})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	health, control, pages := backend("health"), backend("control"), backend("pages")
	tr := newTestRouter(t, func(c *RouterConfig) {
		c.Services = []Service{
			{Name: "pages", Prefix: "/", Backend: pages},
			{Name: "health", Prefix: "/grpc.health.v1.Health/", Backend: health, GRPC: true},
			{Name: "control", Prefix: "/sconce.v1.", Backend: control, GRPC: true},
		}
	})
	const grpc, json = "content-type: application/grpc", "content-type: application/json"
	for _, tc := range []struct {
		path, kind string
		want       *relay.Backend
	}{
		{"/grpc.health.v1.Health/Check", grpc, health},
		{"/sconce.v1.SessionService/Create", grpc, control},
		{"/sconce.v1.SessionService/Create", json, control},
		{"/healthz", json, pages},
		{"/", json, pages},
		{"/unknown.Service/Method", grpc, nil},
		{sparkService + "Config", json, nil},
		{sparkService + "Nothing", json, nil},
	} {
		t.Run(tc.path+" "+tc.kind, func(t *testing.T) {
			s := tr.send(head(":method: POST", ":scheme: https", ":path: "+tc.path, ":authority: a", tc.kind,
				"authorization: Bearer control", "x-sconce-user: root", "x-sconce-source: 192.0.2.9:1"))
			if s.backend != tc.want {
				t.Fatalf("went elsewhere; reply %+v", s.reply)
			}
			if tc.want == nil {
				return
			}
			if s.out.Get("authorization") != "Bearer control" || s.out.Get("x-sconce-user") != "" || s.out.Get(PeerHeader) != s.Peer().Addr.String() || s.out.Get(":scheme") != "https" {
				t.Errorf("header %v", s.out.Fields)
			}
			s.finish(relay.Stats{Status: "0"})
		})
	}
}

func TestBrokenServiceSpeaksTheDressOfTheRequest(t *testing.T) {
	b, err := relay.NewBackend(relay.BackendConfig{Name: "own", Dial: dialNowhere})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	tr := newTestRouter(t, func(c *RouterConfig) { c.Services = []Service{{Name: "own", Prefix: "/", Backend: b, GRPC: true}} })
	broken := func(kind string) *relay.Reply {
		s := tr.send(head(":method: POST", ":path: /x.Y/Z", "content-type: "+kind, "authorization: Bearer x"))
		defer s.finish(relay.Stats{})
		return s.call.Broken(relay.Break{Err: errors.New("stopped")})
	}
	if r := broken("application/grpc"); reasonOf(t, r) != "SERVICE_STOPPED" {
		t.Errorf("gRPC: %+v", r)
	}
	if r := broken("text/html"); r.Status != "503" || len(r.Body) == 0 {
		t.Errorf("HTTP: %+v", r)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	tr := newTestRouter(t, func(c *RouterConfig) { c.Registerer = reg })
	tr.send(sparkHead("Config")).finish(relay.Stats{Status: "0", In: 10, Out: 20})
	tr.send(sparkHead("Config")).finish(relay.Stats{Status: "10", In: 1, Out: 2})
	tr.send(sparkHead("Config")).finish(relay.Stats{Client: true, Reset: true})
	tr.send(sparkHead("Config")).finish(relay.Stats{Reset: true})
	tr.send(sparkHead("Config")).finish(relay.Stats{Status: "99"})
	tr.send(sparkHead("Config", "authorization:"))
	open := tr.send(sparkHead("ExecutePlan"))
	defer open.finish(relay.Stats{})
	got := exposition(t, reg)
	for _, want := range []string{
		`sconce_streams_started_total{method="Config"} 5`,
		`sconce_streams_started_total{method="ExecutePlan"} 1`,
		`sconce_streams_open{method="ExecutePlan"} 1`,
		`sconce_streams_open{method="Config"} 0`,
		`sconce_streams_finished_total{code="OK",method="Config"} 1`,
		`sconce_streams_finished_total{code="ABORTED",method="Config"} 1`,
		`sconce_streams_finished_total{code="CLIENT",method="Config"} 1`,
		`sconce_streams_finished_total{code="RESET",method="Config"} 1`,
		`sconce_streams_finished_total{code="OTHER",method="Config"} 1`,
		`sconce_stream_bytes_total{direction="in",method="Config"} 11`,
		`sconce_stream_bytes_total{direction="out",method="Config"} 22`,
		`sconce_streams_refused_total{reason="TOKEN_MISSING"} 1`,
		`sconce_streams_held{} 0`,
		`sconce_bytes_in_flight{} 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("missing %s in\n%s", want, got)
		}
	}
}

func exposition(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			fmt.Fprintf(&b, "%s{%s} %v\n", f.GetName(), strings.Join(labels, ","), m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	return b.String()
}

func TestTwoRoutersCannotShareARegisterer(t *testing.T) {
	reg := prometheus.NewRegistry()
	newTestRouter(t, func(c *RouterConfig) { c.Registerer = reg })
	_, err := NewRouter(RouterConfig{Verifier: &fakeTokens{}, Resolver: &fakeRegistry{}, Live: NewLive(), Engines: noDial, Registerer: reg})
	if err == nil {
		t.Error("registered twice")
	}
}
