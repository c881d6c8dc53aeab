package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"go.uber.org/zap"
)

// PortConfig says what a Port takes and to whom it gives it.
type PortConfig struct {
	// HTTP2 serves a connection that speaks HTTP/2 until it is over; usually
	// (*relay.Server).ServeConn. Plain is the same for plaintext that RequireTLS
	// refuses: it answers every stream with the reason.
	HTTP2 func(net.Conn, relay.Peer)
	Plain func(net.Conn, relay.Peer)
	// HTTP1 serves a connection that speaks HTTP/1.1 until it is over.
	HTTP1 func(net.Conn)
	// TLS makes the port speak TLS; it must offer h2 and http/1.1. nil = plaintext only.
	TLS *tls.Config
	// RequireTLS refuses plaintext from peers that are not on loopback.
	RequireTLS bool
	// HandshakeTimeout bounds the silence at the start and the TLS handshake.
	HandshakeTimeout time.Duration
	// Connections and ConnectionsPerIP bound what is open; more are closed at
	// once. 0 = no bound.
	Connections, ConnectionsPerIP int
	// Stalled is told when the port cannot accept, for want of file
	// descriptors, and nil when it can again; may be nil.
	Stalled func(error)
	// Logger may be nil.
	Logger *zap.Logger
}

// Port is the one port: it finds out what each connection speaks and hands it
// to who serves that.
//
//	TLS     -> handshake -> ALPN h2        -> HTTP2
//	                     -> ALPN http/1.1  -> HTTP1
//	PRI ... ---------------------------------> HTTP2   (Plain, where TLS is required)
//	GET ... ---------------------------------> HTTP1   (426, where TLS is required)
//
// It is a prometheus.Collector. Each connection has one goroutine, from Accept
// to its end.
type Port struct {
	cfg   PortConfig
	log   *zap.Logger
	tally portTally

	mu    sync.Mutex
	open  int
	perIP map[netip.Addr]int
	young map[net.Conn]struct{} // not yet handed over; closed when the port stops
	stop  bool
}

// NewPort checks the configuration.
func NewPort(cfg PortConfig) (*Port, error) {
	switch {
	case cfg.HTTP2 == nil || cfg.Plain == nil || cfg.HTTP1 == nil:
		return nil, errors.New("proxy: a port needs HTTP2, Plain and HTTP1")
	case cfg.HandshakeTimeout <= 0:
		return nil, errors.New("proxy: a port needs a handshake timeout")
	}
	if cfg.Stalled == nil {
		cfg.Stalled = func(error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	return &Port{cfg: cfg, log: cfg.Logger, perIP: map[netip.Addr]int{}, young: map[net.Conn]struct{}{}}, nil
}

// Listen opens a TCP listener as the port wants it: silent peers are noticed by
// keepalive within a minute, and no multipath TCP, which the relay's direct
// reads and writes would only slow down. (TCP_NODELAY is Go's default.)
func Listen(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3,
	}}
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, "tcp", address)
}

// Serve accepts from ln until ctx ends, closes it, and returns when the last
// connection is over; to end those that were handed over is the business of who
// got them. The error is nil unless accepting failed for good.
func (p *Port) Serve(ctx context.Context, ln net.Listener) error {
	stopped := context.AfterFunc(ctx, func() {
		ln.Close()
		p.closeYoung()
	})
	defer stopped()
	var conns sync.WaitGroup
	err := p.accept(ctx, ln, &conns)
	ln.Close()
	conns.Wait()
	return err
}

// accept starts one goroutine for each connection.
func (p *Port) accept(ctx context.Context, ln net.Listener, conns *sync.WaitGroup) error {
	stall := stall{tell: p.cfg.Stalled}
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			stall.over()
		case ctx.Err() != nil:
			return nil //nolint:nilerr // Serve closed the listener
		case outOfFiles(err):
			p.tally.refused[portFiles].Add(1)
			p.log.Warn("cannot accept: raise the limit of open files", zap.Error(err))
			if !stall.wait(ctx, err) {
				return nil
			}
			continue
		case lostEarly(err):
			continue
		default:
			return err
		}
		ip := addrOf(conn)
		if !p.admit(ip) {
			conn.Close()
			continue
		}
		conns.Go(func() {
			defer p.release(ip)
			p.serve(conn)
		})
	}
}

// outOfFiles: the process or the system has no file descriptor left.
func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// lostEarly: the peer went before it was accepted.
func lostEarly(err error) bool {
	return errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EINTR)
}

// admit counts a connection in, unless there are too many.
func (p *Port) admit(ip netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.cfg.Connections > 0 && p.open >= p.cfg.Connections:
		p.tally.refused[portTotal].Add(1)
		return false
	case p.cfg.ConnectionsPerIP > 0 && p.perIP[ip] >= p.cfg.ConnectionsPerIP:
		p.tally.refused[portPerIP].Add(1)
		return false
	}
	p.open++
	p.perIP[ip]++
	return true
}

func (p *Port) release(ip netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if p.perIP[ip]--; p.perIP[ip] == 0 {
		delete(p.perIP, ip)
	}
}

// serve is the life of one connection.
func (p *Port) serve(conn net.Conn) {
	defer conn.Close()
	if !p.begin(conn) {
		return
	}
	peer := relay.Peer{Addr: conn.RemoteAddr()}
	_ = conn.SetDeadline(time.Now().Add(p.cfg.HandshakeTimeout))
	t, next, err := sniff(conn)
	if err == nil && t == tongueTLS {
		t, next, err = p.handshake(next)
		peer.TLS = true
	}
	if !p.begun(conn) || err != nil {
		p.failed(peer, err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	p.hand(t, next, peer)
}

// hand gives the connection to who serves it.
func (p *Port) hand(t tongue, conn net.Conn, peer relay.Peer) {
	p.tally.accept(t, peer.TLS)
	refuse := p.cfg.RequireTLS && !peer.TLS && !addrOf(conn).IsLoopback()
	if refuse {
		p.tally.refused[portPlain].Add(1)
	}
	switch {
	case t == tongueHTTP2 && refuse:
		p.cfg.Plain(conn, peer)
	case t == tongueHTTP2:
		p.cfg.HTTP2(conn, peer)
	case t == tongueHTTP1 && refuse:
		p.upgrade(conn)
	case t == tongueHTTP1:
		p.cfg.HTTP1(conn)
	default:
		p.tally.refused[portTongue].Add(1)
	}
}

// begin notes a connection that is not handed over yet; false = the port stopped.
func (p *Port) begin(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stop {
		p.young[conn] = struct{}{}
	}
	return !p.stop
}

// begun ends what begin began.
func (p *Port) begun(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.young, conn)
	return !p.stop
}

func (p *Port) closeYoung() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop = true
	for conn := range p.young {
		conn.Close()
	}
}

// failed counts a connection that ended before anybody served it.
func (p *Port) failed(peer relay.Peer, err error) {
	switch {
	case err == nil:
		return
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.tally.refused[portSilent].Add(1)
	case peer.TLS:
		p.tally.refused[portHandshake].Add(1)
	}
	p.log.Debug("connection ended before its first request", zap.Stringer("peer", peer.Addr), zap.Error(err))
}

// alertNoTLS is the TLS record by which a port without a certificate says no:
// fatal, handshake_failure.
var alertNoTLS = []byte{21, 3, 1, 0, 2, 2, 40}

var errNoCertificate = errors.New("proxy: TLS came, and this port has no certificate")

// handshake makes conn a TLS connection and says what is spoken inside.
func (p *Port) handshake(conn net.Conn) (tongue, net.Conn, error) {
	if p.cfg.TLS == nil {
		_, _ = conn.Write(alertNoTLS)
		return undecided, conn, errNoCertificate
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		conn = relay.NewRecords(tcp)
	}
	secure := tls.Server(conn, p.cfg.TLS)
	if err := secure.Handshake(); err != nil {
		return undecided, secure, err
	}
	switch secure.ConnectionState().NegotiatedProtocol {
	case "h2":
		return tongueHTTP2, secure, nil
	case "http/1.1":
		return tongueHTTP1, secure, nil
	}
	return sniffAny(secure) // a client without ALPN
}

// upgrade answers plaintext HTTP/1.1 where TLS is required. The request is not
// read: whatever it carries, it should not have come.
func (p *Port) upgrade(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(p.cfg.HandshakeTimeout))
	if _, err := conn.Write(upgradeResponse()); err != nil {
		return
	}
	lingerClose(conn)
}

// addrOf is the peer's IP, or the zero Addr for connections that have none,
// which is no loopback.
func addrOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
