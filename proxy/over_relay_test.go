package proxy

import (
	"bytes"
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"golang.org/x/net/http2/hpack"
)

// relayed is a testRouter behind the real relay, with one client and an engine
// played by hand.
type relayed struct {
	*testRouter
	client *proxytest.Peer
	engine func() *proxytest.Peer // the next connection to the engine
}

func newRelayed(t *testing.T, change func(*RouterConfig)) *relayed {
	t.Helper()
	ln := proxytest.Listen(t)
	r := &relayed{testRouter: newTestRouter(t, func(c *RouterConfig) {
		c.Engines = func(c *sessions.Cluster) (*relay.Backend, error) {
			return relay.NewBackend(relay.BackendConfig{Name: c.Name, Dial: ln.Dial})
		}
		if change != nil {
			change(c)
		}
	})}
	server, err := relay.NewServer(relay.ServerConfig{Router: r.Router})
	if err != nil {
		t.Fatal(err)
	}
	near, far := proxytest.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.ServeConn(far, relay.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}})
	}()
	t.Cleanup(func() { near.Close(); <-done })
	r.client = proxytest.Client(t, near, proxytest.PeerConfig{})
	r.engine = func() *proxytest.Peer { return proxytest.Server(t, proxytest.Accept(t, ln), proxytest.PeerConfig{}) }
	return r
}

// call opens a stream and sends its body.
func (r *relayed) call(method string, body []byte) (id uint32) {
	id = r.client.Open(sparkHead(method).Fields, false)
	r.client.Send(id, body, true)
	return id
}

// replyOf is what the client read, in the form of a reply.
func replyOf(s proxytest.Stream) *relay.Reply {
	return &relay.Reply{Trailer: []hpack.HeaderField{
		{Name: "grpc-status", Value: s.Trailer("grpc-status")}, {Name: "grpc-message", Value: s.Trailer("grpc-message")},
		{Name: "grpc-status-details-bin", Value: s.Trailer("grpc-status-details-bin")},
	}}
}

func TestOverRelayPlanThatWaitedInVain(t *testing.T) {
	r := newRelayed(t, func(c *RouterConfig) { c.HoldTimeout = 20 * time.Millisecond })
	r.registry.set(aliceSession, nil)
	r.registry.lookup = away
	id := r.call("ExecutePlan", planFrame(2<<20, operationID)) // more than any window: it must be read on
	if got := r.client.Response(id); reasonOf(t, replyOf(got)) != "REGISTRY_UNAVAILABLE" {
		t.Fatalf("got %+v", got)
	}
	r.registry.set(aliceSession, aliceRoute(r.cluster))
	id = r.call("ReattachExecute", reattachFrame(operationID))
	checkSendAgain(t, replyOf(r.client.Response(id)))
}

func TestOverRelayPlanThatIsNeverBound(t *testing.T) {
	r := newRelayed(t, func(c *RouterConfig) { c.HoldTimeout = 20 * time.Millisecond })
	r.registry.prepare = func(context.Context, sessions.SparkID) error { return sessions.ErrUnavailable }
	id := r.call("ExecutePlan", freshPlan(2<<20, operationID)) // more than any window: it must be read on
	if got := r.client.Response(id); reasonOf(t, replyOf(got)) != "REGISTRY_UNAVAILABLE" {
		t.Fatalf("got %+v", got)
	}
	r.registry.prepare = nil
	id = r.call("ReattachExecute", reattachFrame(operationID))
	checkSendAgain(t, replyOf(r.client.Response(id)))
}

func TestOverRelayUserIsStampedHoweverTheBodyComes(t *testing.T) {
	want := grpcFrame(appendMessage(appendText(nil, 1, sparkUUID), 2, appendText(nil, 1, "alice")))
	r := newRelayed(t, nil)
	var engine *proxytest.Peer
	for _, size := range []int{1, 2, 3, 4, 5, 6, 7, 20, 1000} {
		id := r.client.Open(sparkHead("AnalyzePlan").Fields, false)
		pieces := slices.Collect(slices.Chunk(analyzeFrame(), size))
		for i, p := range pieces {
			r.client.Data(id, i == len(pieces)-1, p)
		}
		if engine == nil {
			engine = r.engine()
		}
		s := engine.Accept()
		if got := engine.Response(s.ID); !bytes.Equal(got.Data, want) {
			t.Errorf("in pieces of %d:\ngot  %x\nwant %x", size, got.Data, want)
		}
		answer(engine, s.ID, []byte("ok"))
		if got := r.client.Response(id); got.Trailer("grpc-status") != "0" {
			t.Errorf("in pieces of %d: %+v", size, got)
		}
	}
}

// answer is an engine's answer of one message.
func answer(engine *proxytest.Peer, id uint32, msg []byte) {
	engine.Headers(id, false, proxytest.Fields(":status", "200", "content-type", "application/grpc")...)
	engine.Send(id, proxytest.Message(msg), false)
	engine.Headers(id, true, proxytest.Fields("grpc-status", "0")...)
}

func TestOverRelayEngineDiesAmongRows(t *testing.T) {
	for _, tc := range []struct {
		name, method string
		body         []byte
		reason       string
	}{
		{"reattachable", "ExecutePlan", reattachablePlan(), "ENGINE_DISCONNECTED"},
		{"as from 3.4", "ExecutePlan", planFrame(10, ""), "ENGINE_LOST"},
		{"reattached", "ReattachExecute", reattachFrame(operationID), "ENGINE_DISCONNECTED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRelayed(t, nil)
			id := r.call(tc.method, tc.body)
			engine := r.engine()
			s := engine.Accept()
			engine.Response(s.ID)
			engine.Headers(s.ID, false, proxytest.Fields(":status", "200", "content-type", "application/grpc")...)
			rows := append(proxytest.Message([]byte("row")), 0, 0, 0, 1, 0, 'p', 'a', 'r', 't')
			engine.Send(s.ID, rows, false)
			r.client.Bytes(id, len(rows))
			engine.Close()
			got := r.client.Response(id)
			if !bytes.Equal(got.Data, rows) || reasonOf(t, replyOf(got)) != tc.reason {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestOverRelayClosingASessionEndsItsStreams(t *testing.T) {
	r := newRelayed(t, nil)
	id := r.call("ExecutePlan", reattachablePlan())
	engine := r.engine()
	s := engine.Accept()
	engine.Response(s.ID)
	engine.Headers(s.ID, false, proxytest.Fields(":status", "200", "content-type", "application/grpc")...)
	engine.Send(s.ID, proxytest.Message([]byte("row")), false)
	r.client.Bytes(id, 8)
	r.live.End(aliceSession, sessions.ErrClosed)
	if got := r.client.Response(id); reasonOf(t, replyOf(got)) != "SESSION_CLOSED" {
		t.Errorf("the client read %+v", got)
	}
	engine.WaitStream(s.ID, "the engine's side to be reset", func(s *proxytest.Stream) bool { return s.Reset })
}

func TestOverRelayNoEngineForAPlan(t *testing.T) {
	r := newRelayed(t, func(c *RouterConfig) {
		c.Engines = func(c *sessions.Cluster) (*relay.Backend, error) {
			return relay.NewBackend(relay.BackendConfig{
				Name: c.Name, ConnectTimeout: 10 * time.Millisecond,
				Dial: func(context.Context) (net.Conn, error) { return nil, net.ErrClosed },
			})
		}
	})
	id := r.call("ExecutePlan", reattachablePlan())
	if got := r.client.Response(id); reasonOf(t, replyOf(got)) != "ENGINE_UNREACHABLE" {
		t.Fatalf("got %+v", got)
	}
	id = r.call("ReattachExecute", reattachFrame(operationID))
	checkSendAgain(t, replyOf(r.client.Response(id)))
}

func TestOverRelayPlainHTTP(t *testing.T) {
	r := newRelayed(t, nil)
	id := r.client.Open(sparkHead("Config", "content-type: application/json").Fields, true)
	if got := r.client.Response(id); got.Header(":status") != "415" || string(got.Data) != refuseContentType.Message+"\n" {
		t.Errorf("got %+v", got)
	}
}
