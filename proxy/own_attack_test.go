package proxy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// Attacks on Sconce's own services, by who has no token at all.

const (
	createSession = "/sconce.v1.SessionService/CreateSession"
	checkHealth   = "/grpc.health.v1.Health/Check"
	watchHealth   = "/grpc.health.v1.Health/Watch"
)

// sessionService is registered in the place of the real one: no request of these tests
// comes as far as its handler.
func sessionService(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{ServiceName: "sconce.v1.SessionService", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "CreateSession",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return nil, decode(nil)
		},
	}}}, nil)
}

// mostCallsOpen is as in the default of limits.control_streams.
const mostCallsOpen = 500

// A hundred requests on each of some connections, as large as they may say that they are
// and never whole: next to nothing is held for those that say too much, and what is held
// for the others, which is little too since they are from one address, goes when their
// time is over.
func TestUnfinishedOwnRequestsHoldLittle(t *testing.T) {
	const conns = 4
	made := []string{"authorization", "Bearer made.up.token"}
	for _, tc := range []struct {
		name, path string
		creds      []string
		says, send int // length of the message that is announced, and how much of it comes
		most       int // bytes that may be held
		status     string
	}{
		{"a session of 4 MiB", createSession, made, 4<<20 - 1, 4 << 20, 8 << 20, "8"},
		{"a health check of 4 MiB", checkHealth, nil, 4<<20 - 1, 4 << 20, 8 << 20, "8"},
		{"a session, and no token", createSession, nil, 400 << 10, 400 << 10, 8 << 20, "16"},
		{"a small health check that never ends", checkHealth, nil, 4000, 3999, 16 << 20, "4 8"},
		{"a session that never ends", createSession, made, 500 << 10, 500<<10 - 1, 80 << 20, "4 8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := gateway.Start(t, gateway.Config{Services: sessionService, Own: proxy.OwnLimits{Calls: mostCallsOpen, Within: 2 * time.Second}})
			before := heap()
			body := proxytest.Join(proxytest.Message(make([]byte, tc.says))[:5], make([]byte, tc.send))
			open := map[*proxytest.Peer][]uint32{}
			for range conns {
				p := g.Client(proxytest.PeerConfig{Lenient: true})
				p.WaitSettings()
				for range relay.DefaultLimits().Streams {
					id := p.Open(proxytest.Call(tc.path, tc.creds...), false)
					p.Send(id, body, false)
					open[p] = append(open[p], id)
				}
				p.Barrier()
			}
			held := heap() - before
			if t.Logf("%d KiB are held", held>>10); held > tc.most {
				t.Errorf("more than %d KiB", tc.most>>10)
			}
			for p, ids := range open {
				for _, id := range ids {
					if got := p.Response(id); !slices.Contains(strings.Fields(tc.status), got.Trailer("grpc-status")) {
						t.Fatalf("stream %d read %v", id, got.Blocks)
					}
				}
			}
			settle(t, "streams", 0, func() int { _, streams := g.Relay.Open(); return streams })
			settle(t, "bytes", before+8<<20, heap)
		})
	}
}
