package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"google.golang.org/grpc"
)

// ownServices is a router with the services that Own has, and one for sessions.
func ownServices(t *testing.T, change func(*RouterConfig)) *testRouter {
	t.Helper()
	own, err := NewOwn(OwnConfig{Ready: NewReady(), JSON: http.NotFoundHandler(), Services: func(r grpc.ServiceRegistrar) {
		r.RegisterService(&grpc.ServiceDesc{ServiceName: "sconce.v1.SessionService", HandlerType: (*any)(nil)}, nil)
	}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := relay.NewBackend(relay.BackendConfig{Name: "own", Own: true, Dial: dialNowhere})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return newTestRouter(t, func(c *RouterConfig) {
		c.Services = own.Services(b, b)
		if change != nil {
			change(c)
		}
	})
}

// ownHead is a call of a service of ours.
func ownHead(path string, more ...string) *relay.Header {
	return head(append([]string{":method: POST", ":path: " + path, "content-type: application/grpc"}, more...)...)
}

const (
	createPath = "/sconce.v1.SessionService/CreateSession"
	healthPath = "/grpc.health.v1.Health/Check"
	someToken  = "authorization: Bearer x"
)

// A call that needs a credential and has none does not come as far as its body.
func TestOwnServicesWantACredentialFirst(t *testing.T) {
	tr := ownServices(t, nil)
	for _, tc := range []struct {
		path, reason string // "" = it goes on
		more         []string
	}{
		{createPath, "", []string{someToken}},
		{createPath, "", []string{"authentication: Bearer x"}},
		{createPath, "CONTROL_TOKEN_INVALID", nil},
		{createPath, "CONTROL_TOKEN_INVALID", []string{"authorization: Basic eDp5"}},
		{createPath, "CONTROL_TOKEN_INVALID", []string{"authorization: Bearer "}},
		{createPath, "TOKEN_AMBIGUOUS", []string{someToken, someToken}},
		{"/sconce.v1.SessionService/None", "CONTROL_TOKEN_INVALID", nil},
		{healthPath, "", nil},
		{"/grpc.health.v1.Health/Watch", "", nil},
	} {
		s := tr.send(ownHead(tc.path, tc.more...))
		if tc.reason == "" && s.call == nil || tc.reason != "" && (s.call != nil || reasonOf(t, s.reply) != tc.reason) {
			t.Errorf("%s %q: reply %+v, want %q", tc.path, tc.more, s.reply, tc.reason)
		}
		s.finish(relay.Stats{})
	}
}

// A request to a service of ours is cut as soon as it says, or shows, that it is larger
// than any call needs.
func TestOwnRequestsAreSmall(t *testing.T) {
	tr := ownServices(t, nil)
	for _, tc := range []struct {
		name, path string
		pieces     []string
		cut        bool
	}{
		{"a request", createPath, []string{"\x00\x00\x00\x00\x02ab"}, false},
		{"the largest", createPath, []string{"\x00\x00\x07\xff\xfb", strings.Repeat("a", mostRequest-5)}, false},
		{"one byte more", createPath, []string{"\x00\x00\x07\xff\xfb", strings.Repeat("a", mostRequest-4)}, true},
		{"it says so", createPath, []string{"\x00\x00\x3f\xff\xff"}, true},
		{"it says so bit by bit", createPath, []string{"\x00", "\x00\x3f", "\xff", "\xff"}, true},
		{"the prefix alone", createPath, []string{"\x00\x00\x3f\xff"}, false},
		{"messages without end", createPath, slices.Repeat([]string{"\x00\x00\x00\x80\x00" + strings.Repeat("a", 32<<10)}, 16), true},
		{"health", healthPath, []string{"\x00\x00\x00\x00\x02ab"}, false},
		{"health as large as a session", healthPath, []string{"\x00\x00\x04\x00\x00"}, true},
		{"health, byte after byte", healthPath, slices.Repeat([]string{"\x00\x00\x00\x00\x00"}, 900), true},
	} {
		s, cut := tr.send(ownHead(tc.path, someToken)), false
		for _, p := range tc.pieces {
			v, e := s.edit([]byte(p), false)
			if cut = v == relay.Cut; cut {
				if reason := reasonOf(t, e.Reply); reason != "BODY_TOO_LARGE" {
					t.Errorf("%s: %s", tc.name, reason)
				}
				break
			}
			if v != relay.Pass || e.Used() != len(p) {
				t.Errorf("%s: verdict %d for %d of %d bytes", tc.name, v, e.Used(), len(p))
			}
		}
		if cut != tc.cut {
			t.Errorf("%s: cut is %v", tc.name, cut)
		}
		s.finish(relay.Stats{})
	}
}

// A request that does not come whole is not waited for; one that did may take its time.
func TestOwnRequestsComeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := ownServices(t, nil)
		whole, half, gone := tr.send(ownHead(createPath, someToken)), tr.send(ownHead(healthPath)), tr.send(ownHead(healthPath))
		page := tr.send(head(":method: POST", ":path: /readyz"))
		whole.edit([]byte("\x00\x00\x00\x00\x00"), true)
		half.edit([]byte("\x00\x00\x00\x00\x00"), false)
		gone.finish(relay.Stats{Client: true})
		begun := time.Now()
		<-half.decided
		if took := time.Since(begun); took != 10*time.Second || reasonOf(t, half.reply) != "BODY_TOO_SLOW" {
			t.Errorf("after %s: %+v", took, half.reply)
		}
		time.Sleep(time.Minute)
		if whole.reply != nil || gone.reply != nil || page.reply != nil {
			t.Errorf("cut: %v, %v, %v", whole.reply, gone.reply, page.reply)
		}
		for _, s := range []*fakeStream{whole, half, page} {
			s.finish(relay.Stats{})
		}
	})
}

// from opens a stream from an address.
func (tr *testRouter) from(addr string, h *relay.Header) *fakeStream {
	return tr.sendFrom(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1)), h)
}

// Who holds calls open leaves room to others, and those who show no credential to those
// who do.
func TestOwnCallsAreBounded(t *testing.T) {
	tr := ownServices(t, func(c *RouterConfig) { c.Own.Calls = 10 })
	create, health := ownHead(createPath, someToken), ownHead(healthPath)
	var held []*fakeStream
	for _, tc := range []struct {
		name, from string
		h          *relay.Header
		times      int
		limited    bool
	}{
		{"two", "192.0.2.1", create, 2, false},
		{"a third from there", "192.0.2.1", create, 1, true},
		{"by JSON", "192.0.2.1", head(":method: GET", ":path: /v1/sessions", someToken), 1, true},
		{"what wants no credential", "192.0.2.1", health, 2, false},
		{"another address", "192.0.2.2", create, 2, false},
		{"a network of IPv6", "2001:db8::1", create, 2, false},
		{"the same network", "2001:db8::2", create, 1, true},
		{"a fourth", "192.0.2.4", create, 2, false},
		{"the last", "192.0.2.5", create, 2, false},
		{"nobody any more", "192.0.2.6", create, 1, true},
	} {
		for range tc.times {
			s := tr.from(tc.from, tc.h)
			if s.call != nil == tc.limited {
				t.Errorf("%s: went on: %v", tc.name, s.call != nil)
			}
			if s.call != nil {
				s.edit([]byte("\x00\x00\x00\x00\x00"), true)
				held = append(held, s)
				continue
			}
			if tc.name == "by JSON" {
				if s.reply.Status != "429" || headerValue(s.reply.Header, "retry-after") != "2" {
					t.Errorf("%s: %+v", tc.name, s.reply)
				}
				continue
			}
			info, retry := detailsOf(t, statusOf(t, s.reply))
			if info.GetReason() != "STREAMS_EXHAUSTED" || info.GetMetadata()["limit"] != "limits.control_streams" || retry.GetRetryDelay().AsDuration() != 2*time.Second {
				t.Errorf("%s: %v, %v", tc.name, info, retry)
			}
		}
	}
	for _, s := range held {
		if s.reply != nil {
			t.Errorf("one that went on was cut: %+v", s.reply)
		}
		s.finish(relay.Stats{})
	}
	tr.noneOpen(t)
}

func (tr *testRouter) noneOpen(t *testing.T) {
	t.Helper()
	for _, s := range tr.seats {
		if len(s.taken) != 0 || len(s.from) != 0 {
			t.Errorf("%d are open, from %v", len(s.taken), s.from)
		}
	}
}

// Where there is no room, what holds it up gives way: an attacker behind the same
// balancer does not shut out a probe, nor who has his request whole.
func TestOwnCallsGiveWay(t *testing.T) {
	tr := ownServices(t, func(c *RouterConfig) { c.Own.Calls = 10 })
	create, watch := ownHead(createPath, someToken), ownHead("/grpc.health.v1.Health/Watch")
	for _, tc := range []struct {
		name        string
		older, more string // where they come from
		h           *relay.Header
		ends        [2]bool // whether the requests of the two that are open are whole
		gone        int     // which of them goes; -1 = the new one is refused
	}{
		{"the older half", "192.0.2.1", "192.0.2.1", create, [2]bool{false, false}, 0},
		{"the one that is not whole", "192.0.2.1", "192.0.2.1", create, [2]bool{true, false}, 1},
		{"none that is whole", "192.0.2.1", "192.0.2.1", create, [2]bool{true, true}, -1},
		{"the older watch", "192.0.2.1", "192.0.2.1", watch, [2]bool{true, true}, 0},
		{"none of another address", "192.0.2.1", "192.0.2.2", watch, [2]bool{true, true}, 2},
	} {
		var open []*fakeStream
		for i, end := range tc.ends {
			s := tr.from(tc.older, tc.h)
			s.edit([]byte("\x00\x00\x00\x00\x00"), end)
			if open = append(open, s); s.call == nil {
				t.Fatalf("%s: %d was refused", tc.name, i)
			}
		}
		last := tr.from(tc.more, tc.h)
		if refused := last.call == nil; refused != (tc.gone < 0) {
			t.Errorf("%s: refused: %v", tc.name, refused)
		}
		for i, s := range open {
			if s.reply != nil != (i == tc.gone) || s.reply != nil && reasonOf(t, s.reply) != "STREAMS_EXHAUSTED" {
				t.Errorf("%s: %d: %+v", tc.name, i, s.reply)
			}
		}
		for _, s := range append(open, last) {
			s.finish(relay.Stats{})
		}
		tr.noneOpen(t)
	}
}

// What has no end of its own does not hold up a drain.
func TestOwnCallsEndWithADrain(t *testing.T) {
	tr := ownServices(t, nil)
	watch := tr.send(ownHead("/grpc.health.v1.Health/Watch"))
	create := tr.send(ownHead(createPath, someToken))
	page := tr.send(head(":method: POST", ":path: /v1/sessions", someToken))
	whole := tr.send(ownHead(createPath, someToken))
	whole.edit([]byte("\x00\x00\x00\x00\x00"), true)
	query := tr.send(sparkHead("Config"))
	tr.send(ownHead(healthPath)).finish(relay.Stats{Status: "0"})
	tr.EndOwn()
	late := tr.send(ownHead(healthPath))
	for name, s := range map[string]*fakeStream{"a watch": watch, "a call": create, "one that comes late": late} {
		if s.reply == nil || reasonOf(t, s.reply) != "DRAINING" {
			t.Errorf("%s: %+v", name, s.reply)
		}
	}
	if page.reply == nil || page.reply.Status != "503" || headerValue(page.reply.Header, "retry-after") == "" {
		t.Errorf("a page: %+v", page.reply)
	}
	for name, s := range map[string]*fakeStream{"a query": query, "a call whose request is whole": whole} {
		if s.reply != nil {
			t.Errorf("%s was cut: %+v", name, s.reply)
		}
	}
	for _, s := range []*fakeStream{watch, create, page, whole, query} {
		s.finish(relay.Stats{})
	}
}
