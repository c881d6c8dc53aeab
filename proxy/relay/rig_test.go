package relay_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2/hpack"
)

// method is a path that tests call; the relay has no opinion about paths.
const method = "/spark.connect.SparkConnectService/ExecutePlan"

// rigConfig says what stands around the relay under test.
type rigConfig struct {
	tcp     bool             // loopback sockets in place of memory, on both sides
	tls     *proxytest.Certs // and TLS over them
	limits  relay.Limits
	backend relay.Limits
	maxAge  time.Duration
	rand    func() float64
	router  func(r *rig, s *relay.Stream)      // nil forwards as it came, without a Call
	large   func(h *relay.Header) *relay.Reply // nil: as a Router without TooLarge
	dial    func(context.Context) (net.Conn, error)
}

// rig is one relay with one backend. The backend's end of each connection that
// the relay dials is taken with accept.
type rig struct {
	t       testing.TB
	cfg     rigConfig
	server  *relay.Server
	backend *relay.Backend
	dialed  chan net.Conn
	closed  chan struct{}
	serving sync.WaitGroup
}

type routerFunc func(*relay.Stream)

func (f routerFunc) Route(s *relay.Stream) { f(s) }

// largeRouter is a Router that words what is too large.
type largeRouter struct {
	routerFunc
	large func(*relay.Header) *relay.Reply
}

func (r largeRouter) TooLarge(h *relay.Header) *relay.Reply { return r.large(h) }

func newRig(t testing.TB, cfg rigConfig) *rig {
	t.Helper()
	r := &rig{t: t, cfg: cfg, dialed: make(chan net.Conn, 64), closed: make(chan struct{})}
	if r.cfg.router == nil {
		r.cfg.router = func(r *rig, s *relay.Stream) { s.Forward(r.backend, s.Header(), nil) }
	}
	if r.cfg.dial == nil {
		r.cfg.dial = r.dialPeer
	}
	var router relay.Router = routerFunc(func(s *relay.Stream) { r.cfg.router(r, s) })
	if cfg.large != nil {
		router = largeRouter{router.(routerFunc), cfg.large}
	}
	if cfg.limits.Tarpit == 0 {
		cfg.limits.Tarpit = -1 // floods are over when their connection is
	}
	var err error
	r.server, err = relay.NewServer(relay.ServerConfig{Router: router, Limits: cfg.limits, MaxAge: cfg.maxAge, Rand: cfg.rand})
	if err != nil {
		t.Fatalf("server: %v", err)
	}
	r.backend, err = relay.NewBackend(relay.BackendConfig{Name: "test", Dial: r.cfg.dial, Limits: cfg.backend})
	if err != nil {
		t.Fatalf("backend: %v", err)
	}
	t.Cleanup(r.stop)
	return r
}

// stop ends everything at once and waits for it. Cleanups run in reverse order,
// so the peers are closed by then.
func (r *rig) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.server.Shutdown(ctx)
	r.backend.Close()
	r.serving.Wait()
}

// pair returns the two ends of a new connection.
func (r *rig) pair() (near, far net.Conn) {
	r.t.Helper()
	if !r.cfg.tcp {
		a, b := proxytest.Pipe()
		return a, b
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	near, err = net.Dial("tcp", l.Addr().String()) //nolint:noctx // loopback
	if err != nil {
		r.t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	return near, far
}

// dialPeer is the backend's Dial: the other end goes to accept.
func (r *rig) dialPeer(ctx context.Context) (net.Conn, error) {
	near, far := r.pair()
	tcp, ok := near.(*net.TCPConn)
	if r.cfg.tls == nil || !ok {
		r.dialed <- far
		return near, nil
	}
	r.dialed <- tls.Server(far, r.cfg.tls.Server)
	over := tls.Client(relay.NewRecords(tcp), r.cfg.tls.Client)
	return over, over.HandshakeContext(ctx)
}

// dial connects to the relay.
func (r *rig) dial(context.Context) (net.Conn, error) { return r.connect(), nil }

func (r *rig) connect() net.Conn {
	near, far := r.pair()
	peer := relay.Peer{Addr: far.RemoteAddr(), TLS: r.cfg.tls != nil}
	if tcp, ok := far.(*net.TCPConn); ok && r.cfg.tls != nil {
		over := tls.Server(relay.NewRecords(tcp), r.cfg.tls.Server)
		r.serving.Go(func() {
			_ = over.Handshake()
			r.server.ServeConn(over, peer)
		})
		return tls.Client(near, r.cfg.tls.Client)
	}
	r.serving.Go(func() { r.server.ServeConn(far, peer) })
	return near
}

// client opens a raw connection to the relay.
func (r *rig) client(cfg proxytest.PeerConfig) *proxytest.Peer {
	r.t.Helper()
	return proxytest.Client(r.t, r.connect(), cfg)
}

// conn waits for the next connection that the relay dials.
func (r *rig) conn() net.Conn {
	r.t.Helper()
	timer, stop := context.WithTimeout(context.Background(), proxytest.Patience)
	defer stop()
	select {
	case c := <-r.dialed:
		return c
	case <-timer.Done():
		r.t.Fatal("the relay dialed no backend")
		return nil
	}
}

// accept plays the backend of the next connection that the relay dials.
func (r *rig) accept(cfg proxytest.PeerConfig) *proxytest.Peer {
	r.t.Helper()
	return proxytest.Server(r.t, r.conn(), cfg)
}

// open has a client open a stream and returns both ends of it, with the peers.
// A first byte of body is sent where a Call must see one before the backend does.
func (r *rig) open(clientCfg, backendCfg proxytest.PeerConfig, first ...byte) (*link, *proxytest.Peer, *proxytest.Peer) {
	r.t.Helper()
	c := r.client(clientCfg)
	id := c.Open(proxytest.Call(method), false)
	if len(first) > 0 {
		c.Data(id, false, first)
	}
	b := r.accept(backendCfg)
	return &link{c: c, b: b, cid: id, bid: b.Accept().ID}, c, b
}

// link is one stream through the relay, seen from both ends.
type link struct {
	c, b     *proxytest.Peer
	cid, bid uint32
	answered bool
}

// next opens another stream over the same two connections.
func (l *link) next() *link {
	id := l.c.Open(proxytest.Call(method), false)
	return &link{c: l.c, b: l.b, cid: id, bid: l.b.Accept().ID}
}

// answer sends response headers.
func (l *link) answer() {
	l.answered = true
	l.b.Headers(l.bid, false, ok200()...)
}

// done ends a stream in order from both ends.
func (l *link) done() {
	l.c.Send(l.cid, nil, true)
	if !l.answered {
		l.answer()
	}
	l.b.Headers(l.bid, true, grpcOK()...)
}

func ok200() []hpack.HeaderField {
	return proxytest.Fields(":status", "200", "content-type", "application/grpc")
}

func grpcOK() []hpack.HeaderField { return proxytest.Fields("grpc-status", "0") }

// trailersOnly is a gRPC answer of one header block.
func trailersOnly(code string) []hpack.HeaderField {
	return append(ok200(), proxytest.Fields("grpc-status", code)...)
}

// wires runs a test in memory, over loopback TCP and over TLS, which are
// different code in the relay.
func wires(t *testing.T, f func(t *testing.T, cfg rigConfig)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { f(t, rigConfig{}) })
	t.Run("tcp", func(t *testing.T) { f(t, rigConfig{tcp: true}) })
	t.Run("tls", func(t *testing.T) { f(t, rigConfig{tcp: true, tls: proxytest.NewCerts(t)}) })
}

// witness is a Call that lets everything pass and remembers what it heard.
type witness struct {
	edit  func(p []byte, end bool, e *relay.Edits) relay.Verdict // nil passes
	reply *relay.Reply                                           // what Broken answers

	mu     sync.Mutex
	body   []byte
	ended  bool
	breaks []relay.Break
	stats  chan relay.Stats
}

func newWitness() *witness {
	return &witness{stats: make(chan relay.Stats, 8), reply: unavailable("broken")}
}

func (w *witness) Edit(p []byte, end bool, e *relay.Edits) relay.Verdict {
	if w.edit != nil {
		return w.edit(p, end, e)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.body = append(w.body, p...)
	w.ended = w.ended || end
	e.Keep(len(p))
	return relay.Pass
}

func (w *witness) Broken(b relay.Break) *relay.Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breaks = append(w.breaks, b)
	return w.reply
}

func (w *witness) Done(st relay.Stats) { w.stats <- st }

// over waits for Done.
func (w *witness) over(t *testing.T) relay.Stats {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
	defer cancel()
	select {
	case st := <-w.stats:
		return st
	case <-ctx.Done():
		t.Fatal("Done was not called")
		return relay.Stats{}
	}
}

// broke returns the only Break that was asked about.
func (w *witness) broke(t *testing.T) relay.Break {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.breaks) != 1 {
		t.Fatalf("Broken was called %d times", len(w.breaks))
	}
	return w.breaks[0]
}

// watched makes a router that forwards each stream with a witness of its own
// and hands the witness out.
func watched() (func(*rig, *relay.Stream), chan *witness) {
	ch := make(chan *witness, 1000)
	return func(r *rig, s *relay.Stream) {
		w := newWitness()
		ch <- w
		s.Forward(r.backend, s.Header(), w)
	}, ch
}

// unavailable is a gRPC refusal with a text.
func unavailable(text string) *relay.Reply {
	return &relay.Reply{
		Status:  "200",
		Header:  proxytest.Fields("content-type", "application/grpc"),
		Trailer: proxytest.Fields("grpc-status", "14", "grpc-message", text),
	}
}
