package proxy

import (
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
	own, err := NewOwn(OwnConfig{Ready: NewReady(), Services: func(r grpc.ServiceRegistrar) {
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
