// Package gateway wires a whole Sconce around the fakes of package proxytest: the
// port, the relay, the router, the registry in a Redis of its own, and a fake
// engine behind it, all in the test's process.
//
//	raw or real client -- TCP, TLS or not --> proxy.Port --> relay.Server --> proxy.Router
//	                                                                              |
//	proxytest.Spark  <------------------- relay.Backend <-------------------------+
//	                                              sessions.Resolver --> redisstore --> miniredis
//
// Usage:
//
//	g := gateway.Start(t, gateway.Config{})
//	id := g.Session("alice", sessions.Active)
//	c := g.Client(proxytest.PeerConfig{})
//	c.Open(proxytest.Call(path, g.Credentials(id, "alice")...), false)
//	g.Spark.Calls("")
//
// It is a package of its own because it imports proxy and proxy/relay, whose own
// tests use proxytest. It is not the wiring that is shipped (cmd/sconce has that):
// there is no configuration file, no admin listener and no control service.
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
)

// Config says what is to differ from the defaults of the parts.
type Config struct {
	// Spark configures the fake engine.
	Spark proxytest.SparkConfig
	// Dial connects to the engine in place of the fake one; nil = the fake one, over loopback.
	Dial func(ctx context.Context) (net.Conn, error)
	// Beside, if set, is another replica of the same Sconce: this one takes its keys,
	// engines and registry.
	Beside *Gateway
	// Registry is where the registry is; nil = a Redis of the gateway's own.
	Registry *Registry
	// More are the names of further clusters, each with a fake engine like the first.
	More []string
	// Away are the addresses, by cluster, of engines that run elsewhere: Gateway.Engines has
	// none of its own then.
	Away map[string]string
	// Grace is sessions.ResolverConfig's; 0 = its default.
	Grace time.Duration
	// Uses and TouchEvery are sessions.ResolverConfig's; nil and 0 = nobody, 5 s.
	Uses       sessions.UseStore
	TouchEvery time.Duration
	// ConnectTimeout is proxy.EngineDialer's; 0 = its default.
	ConnectTimeout time.Duration
	// Limits are the relay's, on both sides.
	Limits relay.Limits
	// MaxMessage bounds a request message, in bytes; 0 = no bound.
	MaxMessage uint64
	// Quotas are proxy.RouterConfig's; the zero value bounds nothing.
	Quotas proxy.Quotas
	// Own and Services are proxy.RouterConfig's and proxy.OwnConfig's; nil = grpc.health.v1
	// and the pages alone.
	Own      proxy.OwnLimits
	Services func(grpc.ServiceRegistrar)
	// HoldTimeout and UnaryHold are proxy.RouterConfig's; 0 = its defaults.
	HoldTimeout, UnaryHold time.Duration
	// HandshakeTimeout is proxy.PortConfig's; 0 = 5 s.
	HandshakeTimeout time.Duration
	// Plaintext: the port has no certificate.
	Plaintext bool
	// Certificates are the port's; nil = Gateway.Certs, which do not change.
	Certificates *proxy.CertificatesConfig
	// ClusterTLS is how the engine is reached, by the name engine.test; nil = plaintext.
	ClusterTLS *sessions.ClusterTLS
	// Verifier makes what checks tokens out of the gateway's keys; nil = Keys.Verifier.
	Verifier func(*proxytest.Keys) proxy.TokenVerifier
	// Logger; nil = none.
	Logger *zap.Logger
}

// Registry says where a registry is.
type Registry = redisstore.Config

// Cluster is the name of the first cluster, and Token the pre-shared token of all.
const (
	Cluster = "fake"
	Token   = "pre-shared-token-of-the-engine"

	engineAddress = "engine.test:15002"
)

// Gateway is a running Sconce.
type Gateway struct {
	// Spark is the engine, unless Config.Dial put another in its place.
	Spark *proxytest.Spark
	// Engines are the engines of all clusters, that one among them, by cluster.
	Engines map[string]*proxytest.Spark
	// Keys makes tokens that the gateway believes.
	Keys *proxytest.Keys
	// Certs are those of the port.
	Certs *proxytest.Certs
	// Redis is the registry's server; nil where Config.Registry says that it is another.
	Redis *miniredis.Miniredis
	// Store is the registry.
	Store *redisstore.Store
	// Relay serves the port's HTTP/2.
	Relay *relay.Server
	// Router decides about streams.
	Router *proxy.Router

	t        testing.TB
	registry Registry
	seeds    *redisstore.Store // by which the test makes and moves sessions: it may take its time
	listener net.Listener
	run      []func(context.Context) error
	finish   []func()
}

// Start wires and runs a gateway until the test ends.
func Start(t testing.TB, cfg Config) *Gateway {
	t.Helper()
	g := &Gateway{t: t, Certs: proxytest.NewCerts(t)}
	if other := cfg.Beside; other != nil {
		g.Keys, g.Redis, g.registry, g.Engines, g.Spark = other.Keys, other.Redis, other.registry, other.Engines, other.Spark
	} else {
		g.alone(cfg)
	}
	g.wire(cfg)
	g.serve()
	return g
}

// alone makes what all replicas share.
func (g *Gateway) alone(cfg Config) {
	g.t.Helper()
	g.Keys = proxytest.NewKeys(g.t, nil)
	if cfg.Registry != nil {
		g.registry = *cfg.Registry
	} else {
		g.Redis = miniredis.RunT(g.t)
		g.registry = Registry{Addresses: []string{g.Redis.Addr()}, Timeout: proxytest.Patience} // no test is about its speed
	}
	cfg.Spark.Token = Token
	g.Engines = map[string]*proxytest.Spark{}
	if cfg.Away != nil {
		return
	}
	for _, name := range append([]string{Cluster}, cfg.More...) {
		g.Engines[name] = proxytest.StartSpark(g.t, cfg.Spark)
	}
	g.Spark = g.Engines[Cluster]
}

// clusters are what the engines look like from Sconce: each has a name of its own
// in an address that nobody resolves.
func (g *Gateway) clusters(cfg Config) sessions.Clusters {
	g.t.Helper()
	list := []sessions.Cluster{{Name: Cluster, Address: engineAddress, TLS: cfg.ClusterTLS, Token: Token}}
	names := slices.AppendSeq(slices.Collect(maps.Keys(g.Engines)), maps.Keys(cfg.Away))
	for _, name := range names {
		if name != Cluster {
			list = append(list, sessions.Cluster{Name: name, Address: addressOf(name), Token: Token})
		}
	}
	clusters, err := sessions.NewClusters(list)
	g.must(err)
	return clusters
}

// addressOf is the address of a cluster.
func addressOf(name string) string {
	if name == Cluster {
		return engineAddress
	}
	return name + ".test:15002"
}

// dial connects to the engine at that address.
func (g *Gateway) dial(cfg Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	ways := map[string]func(context.Context) (net.Conn, error){}
	for name, engine := range g.Engines {
		ways[addressOf(name)] = engine.DialTCP
	}
	if cfg.Dial != nil {
		ways[engineAddress] = cfg.Dial
	}
	for name, away := range cfg.Away {
		ways[addressOf(name)] = func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", away) }
	}
	return func(ctx context.Context, _, address string) (net.Conn, error) { return ways[address](ctx) }
}

func (g *Gateway) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatalf("gateway: %v", err)
	}
}

// wire builds the parts, in the order of cmd/sconce.
func (g *Gateway) wire(cfg Config) {
	g.t.Helper()
	clusters := g.clusters(cfg)
	var err error
	g.Store, err = redisstore.New(g.registry)
	g.must(err)
	patient := g.registry
	patient.DialTimeout, patient.Timeout = proxytest.Patience, proxytest.Patience
	g.seeds, err = redisstore.New(patient)
	g.must(err)
	live := proxy.NewLive()
	resolver, err := sessions.NewResolver(sessions.ResolverConfig{Directory: g.Store, Clusters: clusters, OnEnd: live.End, Grace: cfg.Grace, Uses: cfg.Uses, TouchEvery: cfg.TouchEvery, ReadTimeout: max(500*time.Millisecond, g.registry.Timeout)})
	g.must(err)
	verifier := proxy.TokenVerifier(g.Keys.Verifier)
	if cfg.Verifier != nil {
		verifier = cfg.Verifier(g.Keys)
	}
	own, services := g.ownServices(cfg)
	engines := &proxy.EngineDialer{Limits: cfg.Limits, ConnectTimeout: cfg.ConnectTimeout, Dial: g.dial(cfg)}
	g.Router, err = proxy.NewRouter(proxy.RouterConfig{
		Verifier: verifier, Resolver: resolver, Live: live, Engines: engines.Backend, Services: services, Own: cfg.Own,
		MaxMessage: cfg.MaxMessage, Quotas: cfg.Quotas, HoldTimeout: cfg.HoldTimeout, UnaryHold: cfg.UnaryHold, Logger: cfg.Logger,
	})
	g.must(err)
	g.Relay, err = relay.NewServer(relay.ServerConfig{Router: g.Router, Limits: cfg.Limits, Logger: cfg.Logger})
	g.must(err)
	port := g.port(cfg, own)
	g.listener = proxytest.TCP(g.t)
	g.run = append(g.run, resolver.Run, own.Run, g.Router.Run,
		func(ctx context.Context) error { return port.Serve(ctx, g.listener) })
}

// ownServices are grpc.health.v1, the pages, and what Config.Services registers.
func (g *Gateway) ownServices(cfg Config) (*proxy.Own, []proxy.Service) {
	g.t.Helper()
	own, err := proxy.NewOwn(proxy.OwnConfig{Ready: proxy.NewReady(), Services: cfg.Services})
	g.must(err)
	rpc, err := relay.NewBackend(relay.BackendConfig{Name: "own grpc", Own: true, Dial: own.DialGRPC, Limits: cfg.Limits})
	g.must(err)
	pages, err := relay.NewBackend(relay.BackendConfig{Name: "own http", Own: true, Dial: own.DialHTTP, Limits: cfg.Limits})
	g.must(err)
	g.finish = append(g.finish, rpc.Close, pages.Close)
	return own, own.Services(rpc, pages)
}

func (g *Gateway) port(cfg Config, own *proxy.Own) *proxy.Port {
	g.t.Helper()
	refusing, err := relay.NewServer(relay.ServerConfig{Router: proxy.Plaintext{}})
	g.must(err)
	pc := proxy.PortConfig{
		HTTP2: g.Relay.ServeConn, Plain: refusing.ServeConn, HTTP1: own.ServeHTTP1,
		RequireTLS: true, HandshakeTimeout: cfg.HandshakeTimeout, Logger: cfg.Logger,
	}
	if pc.HandshakeTimeout == 0 {
		pc.HandshakeTimeout = 5 * time.Second
	}
	if !cfg.Plaintext {
		if cfg.Certificates == nil {
			cfg.Certificates = &proxy.CertificatesConfig{Cert: g.Certs.CertFile, Key: g.Certs.KeyFile}
		}
		certs, err := proxy.NewCertificates(*cfg.Certificates)
		g.must(err)
		pc.TLS = certs.TLS()
		g.run = append(g.run, certs.Run)
	}
	port, err := proxy.NewPort(pc)
	g.must(err)
	return port
}

// serve runs the parts, and ends them with the test: the relay first, since
// what runs needs the others.
func (g *Gateway) serve() {
	ctx, stop := context.WithCancel(context.Background())
	var group errgroup.Group
	for _, run := range g.run {
		group.Go(func() error { return run(ctx) })
	}
	g.t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		if err := g.Relay.Shutdown(now); err != nil && !errors.Is(err, context.Canceled) {
			g.t.Errorf("gateway: shut the relay down: %v", err)
		}
		stop()
		if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			g.t.Errorf("gateway: %v", err)
		}
		for _, f := range g.finish {
			f()
		}
		g.must(errors.Join(g.seeds.Close(), g.Store.Close()))
	})
}

// Addr is where the port listens, on loopback.
func (g *Gateway) Addr() string { return g.listener.Addr().String() }

// Dial connects to the port.
func (g *Gateway) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", g.Addr())
}

// DialTLS connects to the port by TLS.
func (g *Gateway) DialTLS(ctx context.Context) (net.Conn, error) {
	d := tls.Dialer{Config: g.Certs.Client}
	return d.DialContext(ctx, "tcp", g.Addr())
}

// Client connects a raw client in plaintext.
func (g *Gateway) Client(cfg proxytest.PeerConfig) *proxytest.Peer {
	g.t.Helper()
	conn, err := g.Dial(g.t.Context())
	g.must(err)
	return proxytest.Client(g.t, conn, cfg)
}

// Session makes a session of owner on the first cluster, in organisation "acme",
// in that state.
func (g *Gateway) Session(owner string, state sessions.State) sessions.ID {
	g.t.Helper()
	return g.SessionOn(Cluster, owner, state)
}

// SessionOn is Session on that cluster.
func (g *Gateway) SessionOn(cluster, owner string, state sessions.State) sessions.ID {
	g.t.Helper()
	now := time.Now()
	id, err := sessions.NewID(now, rand.Reader)
	g.must(err)
	_, err = g.seeds.Create(g.t.Context(), sessions.Session{
		ID: id, Name: string(id), Owner: owner, Org: "acme", Cluster: cluster, State: sessions.Pending, CreatedAt: now, ChangedAt: now,
	}, "")
	g.must(err)
	for _, step := range map[sessions.State][]sessions.State{
		sessions.Active: {sessions.Active},
		sessions.Failed: {sessions.Failed},
		sessions.Closed: {sessions.Closed},
		sessions.Idle:   {sessions.Active, sessions.Idle},
	}[state] {
		g.Move(id, step)
	}
	return id
}

// Move changes the state of a session.
func (g *Gateway) Move(id sessions.ID, to sessions.State) {
	g.t.Helper()
	list, err := g.seeds.Get(g.t.Context(), id)
	g.must(err)
	if len(list) != 1 {
		g.t.Fatalf("gateway: no session %s", id)
	}
	_, err = g.seeds.Transition(g.t.Context(), id, sessions.Transition{
		From: list[0].State, Generation: list[0].Generation, To: to, At: time.Now(),
	})
	g.must(err)
}

// Credentials are the header fields of a client of a session, as name and
// value pairs for proxytest.Call.
func (g *Gateway) Credentials(id sessions.ID, owner string) []string {
	return []string{"authorization", "Bearer " + g.Keys.Session(string(id), owner), "x-session-id", string(id)}
}
