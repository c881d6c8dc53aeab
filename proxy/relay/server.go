package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http2"
)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	// Router decides the fate of each stream. Required.
	Router Router
	// Limits bounds each client connection; the zero value is DefaultLimits.
	Limits Limits
	// MaxAge is how long a connection takes new streams: then the client is told, as
	// by Shutdown, to open them on another, and it ends behind its last stream. Each
	// connection's is up to a tenth longer or shorter, so that those which came together
	// do not leave together. 0 = no bound.
	MaxAge time.Duration
	// Rand is a number from 0 up to 1, by which ages differ. Any goroutine calls it.
	// nil = rand.Float64.
	Rand func() float64
	// Logger takes one line for a connection that ends by a fault; nil is none.
	Logger *zap.Logger
}

// Server owns the HTTP/2 connections of clients.
type Server struct {
	router Router
	limits Limits
	log    *zap.Logger
	maxAge atomic.Int64 // a time.Duration
	rand   func() float64
	pool   buffers
	turns  sync.Pool
	watch  watch
	// handing: draining, so answers may be handed over. Each DATA frame reads it.
	handing   atomic.Bool
	tarpitted atomic.Int32 // connections: see clientConn.tarpit

	mu       sync.Mutex
	conns    map[*clientConn]struct{}
	draining bool
	empty    chan struct{} // closed when the last connection went, while draining
}

// NewServer checks cfg; connections are served by ServeConn.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Router == nil {
		return nil, errors.New("relay: a server needs a router")
	}
	if cfg.MaxAge < 0 {
		return nil, errors.New("relay: the largest age of a connection is negative")
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	s := &Server{
		router: cfg.Router, limits: cfg.Limits.withDefaults(), log: cfg.Logger,
		rand:  cfg.Rand,
		conns: map[*clientConn]struct{}{},
	}
	s.watch.lim = &s.limits
	s.SetMaxAge(cfg.MaxAge)
	return s, nil
}

// ServeConn serves one HTTP/2 connection, from its preface on, and returns when
// it is over. It is fastest over a *net.TCPConn, and over a *tls.Conn that
// stands on Records.
func (s *Server) ServeConn(nc net.Conn, peer Peer) {
	// This goroutine's stack stays for as long as the connection: what is only
	// needed at its beginning and its end is kept out of this frame.
	if cc := s.open(nc, peer); cc != nil {
		s.close(cc, cc.run())
	}
}

// open makes the connection and sends our SETTINGS.
func (s *Server) open(nc net.Conn, peer Peer) *clientConn {
	w := newWire(nc)
	if tw, ok := w.(interface{ usePool(*buffers) }); ok {
		tw.usePool(&s.pool)
	}
	cc := &clientConn{conn: newConn(ClientSide, w, &s.pool, &s.limits), server: s, remote: peer}
	cc.role = cc
	cc.maxAge = s.age()
	cc.greet("", // before Shutdown can see it: SETTINGS come first
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(s.limits.Streams)},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(s.limits.StreamWindow)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(s.limits.HeaderBytes)},
	)
	if !s.add(cc) {
		w.close()
		return nil
	}
	s.watch.add(cc.conn)
	return cc
}

// SetMaxAge changes ServerConfig.MaxAge for connections that come from now on.
func (s *Server) SetMaxAge(age time.Duration) { s.maxAge.Store(int64(max(age, 0))) }

// age is how long the next connection takes new streams; 0 = as long as it lives.
func (s *Server) age() time.Duration {
	return time.Duration(float64(s.maxAge.Load()) * (0.9 + 0.2*s.rand()))
}

// close forgets a connection that is over.
func (s *Server) close(cc *clientConn, err error) {
	s.watch.remove(cc.conn)
	s.remove(cc)
	var ce *ConnectionError
	if errors.As(err, &ce) && ce.Code != http2.ErrCodeNo {
		s.log.Info("client connection ended", zap.Stringer("peer", cc.remote.Addr), zap.Error(err))
	}
}

// tooLarge is the answer to headers past the limit (RFC 6585, section 5).
func (s *Server) tooLarge(h *Header) *Reply {
	if r, ok := s.router.(TooLarge); ok {
		if reply := r.TooLarge(h); reply != nil {
			return reply
		}
	}
	return &Reply{Status: "431"}
}

func (s *Server) add(cc *clientConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.conns[cc] = struct{}{}
	return true
}

func (s *Server) remove(cc *clientConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, cc)
	if s.draining && len(s.conns) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// Shutdown drains: clients are told to open no new streams here (GOAWAY with the
// highest id, and with the real one once they have seen it: RFC 9113 section
// 6.8), streams that are open go on, or are handed over where their Call is a Handover,
// and each connection closes behind its last. When ctx ends, what is left is closed.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.handing.Store(true)
	live := make([]*clientConn, 0, len(s.conns))
	for cc := range s.conns {
		live = append(live, cc)
	}
	empty := make(chan struct{})
	if s.empty = empty; len(live) == 0 {
		close(empty)
		s.empty = nil
	}
	s.mu.Unlock()
	for _, cc := range live {
		cc.leave()
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	for _, cc := range live {
		cc.fail()
	}
	<-empty
	return ctx.Err()
}

// Open returns how many client connections and streams there are.
func (s *Server) Open() (conns, streams int) {
	s.mu.Lock()
	live := make([]*clientConn, 0, len(s.conns))
	for cc := range s.conns {
		live = append(live, cc)
	}
	s.mu.Unlock()
	for _, cc := range live {
		cc.mu.Lock()
		streams += len(cc.streams)
		cc.mu.Unlock()
	}
	return len(live), streams
}

// turn borrows a turn; settle finishes and returns it.
func (s *Server) turn() *turn {
	if t, ok := s.turns.Get().(*turn); ok {
		return t
	}
	return new(turn)
}

func (s *Server) settle(t *turn) {
	t.settle()
	s.turns.Put(t)
}

// streamGone is told that a client's side is over.
func (s *Server) streamGone(st *Stream) {
	if cc := st.client(); cc.leaving.Load() {
		cc.closeWhenEmpty()
	}
}

// drainGrace is how long a client may take to answer the ping between the two
// GOAWAYs, and to close a connection that has no streams left.
const drainGrace = time.Second

// lastWords is how long a client may take to close a connection that we have
// ended, after it was sent everything.
const lastWords = 10 * time.Second
