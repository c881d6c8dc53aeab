package proxytest

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // a server that can gzip its answers, as Sail does
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// SparkService is the path before a method's name.
const SparkService = "/spark.connect.SparkConnectService/"

// SparkConfig says what a fake server is like. The zero value is a plaintext
// server without a token.
type SparkConfig struct {
	// Token, if set, is the pre-shared token that each call must bear.
	Token string
	// TLS, if set, makes the loopback listener a TLS one. In memory it is always plaintext.
	TLS *tls.Config
	// Rows is what a plan answers: that many batches of BatchBytes. 0 means 3.
	Rows int
	// BatchBytes is the size of a batch. 0 means 100.
	BatchBytes int
	// Forget has it remember no call: for so many that they would fill the memory.
	Forget bool
	// Options go to grpc.NewServer.
	Options []grpc.ServerOption
}

// Spark is a Spark Connect server: it answers the twelve methods as a small
// engine would, or by script, and remembers everything it was asked. It takes
// any path, so that a call that should not have come is seen.
type Spark struct {
	cfg    SparkConfig
	server *grpc.Server
	memory *Listener
	tcp    net.Listener

	mu         sync.Mutex
	scripts    map[string]Script
	calls      []*Record
	conns      map[net.Conn]bool
	accepted   int
	operations map[string]*operation
	changed    chan struct{}
}

// StartSpark starts a fake server, reachable by Dial in memory and at Addr on
// loopback, and stops it with the test.
func StartSpark(t testing.TB, cfg SparkConfig) *Spark {
	t.Helper()
	s := NewSpark(t, cfg)
	s.tcp = TCP(t)
	s.serve(t, s.memory)
	tcp := net.Listener(tracked{s.tcp, s})
	if cfg.TLS != nil {
		tcp = tls.NewListener(tcp, cfg.TLS)
	}
	s.serve(t, tcp)
	return s
}

// NewSpark is StartSpark without the loopback listener, for synctest.
func NewSpark(t testing.TB, cfg SparkConfig) *Spark {
	if cfg.Rows == 0 {
		cfg.Rows = 3
	}
	if cfg.BatchBytes == 0 {
		cfg.BatchBytes = 100
	}
	s := &Spark{
		cfg: cfg, memory: Listen(t), scripts: map[string]Script{},
		conns: map[net.Conn]bool{}, operations: map[string]*operation{}, changed: make(chan struct{}),
	}
	options := append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(s.handle),
		grpc.MaxRecvMsgSize(1 << 30), grpc.MaxSendMsgSize(1 << 30), grpc.WaitForHandlers(true),
	}, cfg.Options...)
	s.server = grpc.NewServer(options...)
	t.Cleanup(s.server.Stop)
	return s
}

// ServeMemory serves Dial of a server that NewSpark made.
func (s *Spark) ServeMemory(t testing.TB) { s.serve(t, s.memory) }

func (s *Spark) serve(t testing.TB, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.server.Serve(tracked{l, s})
	}()
	t.Cleanup(func() {
		s.server.Stop()
		<-done
	})
}

// Dial connects in memory.
func (s *Spark) Dial(ctx context.Context) (net.Conn, error) { return s.memory.Dial(ctx) }

// DialTCP connects over loopback, without TLS.
func (s *Spark) DialTCP(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.Addr())
}

// Addr is the loopback address.
func (s *Spark) Addr() string { return s.tcp.Addr().String() }

// Script makes later calls of a method, by its short name, run f; "" is every
// method that has no script of its own, nil takes a script away.
func (s *Spark) Script(method string, f Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[method] = f
}

// Calls is how many calls of a method came, by its short name or whole path;
// "" counts all.
func (s *Spark) Calls(method string) int { return len(s.Recorded(method)) }

// Recorded returns the calls of a method that came, oldest first; "" is all.
func (s *Spark) Recorded(method string) []*Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rs []*Record
	for _, r := range s.calls {
		if method == "" || r.Method == method || r.Path == method {
			rs = append(rs, r)
		}
	}
	return rs
}

// Forget drops the calls that were recorded: a test that measures memory makes thousands.
func (s *Spark) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// WaitCalls waits until n calls of a method came and returns them.
func (s *Spark) WaitCalls(t testing.TB, method string, n int) []*Record {
	t.Helper()
	timer, stop := patience()
	defer stop()
	for {
		s.mu.Lock()
		ch := s.changed
		s.mu.Unlock()
		if rs := s.Recorded(method); len(rs) >= n {
			return rs
		}
		select {
		case <-ch:
		case <-timer:
			t.Fatalf("fake Spark: %d calls of %q, want %d", s.Calls(method), method, n)
		}
	}
}

// Conns is how many connections are open, and how many ever were.
func (s *Spark) Conns() (open, accepted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.accepted
}

// Cut closes every connection at once, as a killed engine does. The server goes
// on listening.
func (s *Spark) Cut() {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// Stop ends the server for good.
func (s *Spark) Stop() { s.server.Stop() }

func (s *Spark) note(r *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.Forget {
		s.calls = append(s.calls, r)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// handle serves every call.
func (s *Spark) handle(_ any, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	md, _ := metadata.FromIncomingContext(stream.Context())
	r := &Record{Path: path, Method: path[strings.LastIndexByte(path, '/')+1:], Metadata: md, forget: s.cfg.Forget, done: make(chan struct{})}
	r.Deadline, _ = stream.Context().Deadline()
	s.note(r)
	x := &Exchange{Record: r, Spark: s, stream: stream}
	err := s.run(x)
	r.finish(err)
	return err
}

func (s *Spark) run(x *Exchange) error {
	if s.cfg.Token != "" && !bears(x.Metadata, s.cfg.Token) {
		return status.Error(codes.Unauthenticated, "wrong pre-shared token")
	}
	s.mu.Lock()
	f := s.scripts[x.Method]
	if f == nil {
		f = s.scripts[""]
	}
	s.mu.Unlock()
	if f == nil {
		f = s.answer
	}
	return f(x)
}

// bears is Spark's own check: the last header wins and must match exactly.
func bears(md metadata.MD, token string) bool {
	vs := md.Get("authorization")
	return len(vs) > 0 && vs[len(vs)-1] == "Bearer "+token
}

// tracked records the connections of a listener.
type tracked struct {
	net.Listener
	s *Spark
}

func (l tracked) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tc := &trackedConn{Conn: c, s: l.s}
	l.s.mu.Lock()
	l.s.conns[tc] = true
	l.s.accepted++
	l.s.mu.Unlock()
	return tc, nil
}

type trackedConn struct {
	net.Conn
	s *Spark
}

func (c *trackedConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}
