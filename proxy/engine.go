package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"go.uber.org/zap"
)

// engine is the connections to one cluster, as it was configured when a route
// first named it.
type engine struct {
	backend   *relay.Backend
	scheme    string // what :scheme says to it,
	authority string // and :authority
	token     string // its pre-shared token, or ""

	open atomic.Int64 // streams on it; retired and below once it takes no more
	idle bool         // of Sweep: unused when it last looked
}

// retired is what open stands at, or near, once an engine takes no more streams.
const retired = -1 << 40

// use counts one more stream. It says no where the engine was retired meanwhile.
func (e *engine) use() bool {
	if e.open.Add(1) > 0 {
		return true
	}
	e.open.Add(-1)
	return false
}

func (e *engine) release() { e.open.Add(-1) }

// engineKey is all that two routes must agree on to share connections.
type engineKey struct {
	name, address, token string
	tls                  bool
	caFile, serverName   string
	certFile, keyFile    string
}

// engines is every engine in use, made when first asked for and closed when
// unused for a while: that is how one goes whose cluster went.
type engines struct {
	dial func(*sessions.Cluster) (*relay.Backend, error)

	mu     sync.Mutex
	known  map[engineKey]*engine
	closed bool
}

var errEnginesClosed = errors.New("engines: closed")

// of returns the engine of a cluster.
func (es *engines) of(c *sessions.Cluster) (*engine, error) {
	key := engineKey{name: c.Name, address: c.Address, token: c.Token}
	scheme := "http"
	if c.TLS != nil {
		scheme, key.tls = "https", true
		key.caFile, key.serverName, key.certFile, key.keyFile = c.TLS.CAFile, c.TLS.ServerName, c.TLS.CertFile, c.TLS.KeyFile
	}
	es.mu.Lock()
	defer es.mu.Unlock()
	if es.closed {
		return nil, errEnginesClosed
	}
	if e := es.known[key]; e != nil {
		e.idle = false // whoever asks is about to use it
		return e, nil
	}
	b, err := es.dial(c)
	if err != nil {
		return nil, fmt.Errorf("backend of cluster %s: %w", c.Name, err)
	}
	e := &engine{backend: b, scheme: scheme, authority: c.Address, token: c.Token}
	es.known[key] = e
	return e, nil
}

// sweep closes engines that have had no stream since the sweep before.
func (es *engines) sweep() {
	for _, e := range es.unused() {
		e.backend.Close() // outside the lock: it waits for connections to end
	}
}

// unused takes the engines out that sweep closes.
func (es *engines) unused() (out []*engine) {
	es.mu.Lock()
	defer es.mu.Unlock()
	for key, e := range es.known {
		n := e.open.Load()
		if n == 0 && e.idle && e.open.CompareAndSwap(0, retired) {
			delete(es.known, key)
			out = append(out, e)
			continue
		}
		e.idle = n == 0
	}
	return out
}

func (es *engines) close() {
	es.mu.Lock()
	es.closed = true
	known := es.known
	es.known = nil
	es.mu.Unlock()
	for _, e := range known {
		e.backend.Close()
	}
}

// EngineDialer makes the relay's side of a cluster. Its Backend is what
// RouterConfig.Engines wants.
type EngineDialer struct {
	// Dial opens a TCP connection; nil = a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Limits are those of backend connections; zero fields mean the defaults.
	Limits relay.Limits
	// ConnectTimeout is how long a stream waits while the cluster cannot be
	// reached; 0 = the relay's default, 30 s.
	ConnectTimeout time.Duration
	// Logger; nil = none.
	Logger *zap.Logger
}

// Backend makes a backend that dials the cluster when it is needed. Its certificate
// files are read at each connection: one that is gone is a cluster not reached.
func (d *EngineDialer) Backend(c *sessions.Cluster) (*relay.Backend, error) {
	return relay.NewBackend(relay.BackendConfig{
		Name:   c.Name,
		Dial:   func(ctx context.Context) (net.Conn, error) { return d.connect(ctx, c) },
		Limits: d.Limits, ConnectTimeout: d.ConnectTimeout,
		Logger: d.Logger,
	})
}

func (d *EngineDialer) connect(ctx context.Context, c *sessions.Cluster) (net.Conn, error) {
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", c.Address)
	if err != nil || c.TLS == nil {
		return conn, err
	}
	secure, err := d.secure(ctx, c, conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// secure speaks TLS on conn and insists on HTTP/2 behind it.
func (d *EngineDialer) secure(ctx context.Context, c *sessions.Cluster, conn net.Conn) (net.Conn, error) {
	conf, err := c.TLSConfig()
	if err != nil {
		return nil, err
	}
	if conf.ServerName == "" {
		if conf.ServerName, _, err = net.SplitHostPort(c.Address); err != nil {
			return nil, fmt.Errorf("address of cluster %s: %w", c.Name, err)
		}
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		conn = relay.NewRecords(tcp) // the relay takes over the connection below TLS
	}
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with cluster %s: %w", c.Name, err)
	}
	if p := secure.ConnectionState().NegotiatedProtocol; p != "h2" {
		return nil, fmt.Errorf("TLS with cluster %s: it chose %q and not h2", c.Name, p)
	}
	return secure, nil
}
