package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/control"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
)

// gateway is what `serve` and `dev` run.
type gateway struct {
	cfg *configs.Config
	log *zap.Logger
	// unlogged is how many lines of the log were dropped; nil = none ever is.
	unlogged func() uint64
	now      func() time.Time
	// cut ends a drain at once when it is closed; nil = never.
	cut <-chan struct{}
	// updates brings configurations that differ only in what can be taken over; nil = none do.
	updates <-chan *configs.Config
	// drainFor is the drain_timeout of now.
	drainFor atomic.Int64
	// ready is called once, when traffic may come; nil = nobody asks.
	ready func()
}

// The conditions of /readyz.
const (
	needRedis = "redis" // it answers, or has been away for less than registry_grace
	needPort  = "port"  // it listens and can accept
	needStay  = "stay"  // no signal to stop has come
)

// Run builds everything, wires it, and serves until ctx ends; then it drains.
// It is the only place where the parts meet, and therefore long: read it as a
// list.
func (g *gateway) Run(ctx context.Context) error {
	cfg, log, limits := g.cfg, g.log, relayLimits(g.cfg)
	g.drainFor.Store(int64(cfg.DrainTimeout))
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if g.unlogged != nil {
		metrics.MustRegister(counter("sconce_log_lines_dropped_total", "Lines of the log that nobody took in time.", g.unlogged))
	}
	ready := proxy.NewReady(needRedis, needPort)

	// The listeners come first: a port that is taken is found before anything starts.
	listener, err := proxy.Listen(ctx, cfg.Listen)
	if err != nil {
		return listenError("listen", cfg.Listen, err)
	}
	defer listener.Close()
	adminListener, err := g.listenAdmin(ctx)
	if err != nil {
		return err
	}
	if adminListener != nil {
		defer adminListener.Close()
	}

	// Who is calling.
	signing, err := auth.LoadSigningKey(cfg.Auth.SigningKey)
	if err != nil {
		return err
	}
	keys, err := auth.NewKeySet(auth.KeySetConfig{Files: cfg.Auth.KeyFiles, Own: []*auth.SigningKey{signing}, Logger: log})
	if err != nil {
		return err
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys, Issuer: cfg.Auth.Issuer, Leeway: leeway(cfg.Auth), Now: g.now})
	if err != nil {
		return err
	}
	issuer, err := newIssuer(cfg, signing, g.now)
	if err != nil {
		return err
	}
	principals, outside, err := newPrincipals(cfg.Auth, verifier, ready, g.now, log)
	if err != nil {
		return err
	}

	// What is theirs.
	engines, err := launchers(cfg, launcherConfig{environ: os.Environ(), log: log})
	if err != nil {
		return err
	}
	clusters, err := clusterList(cfg.Clusters, engines)
	if err != nil {
		return err
	}
	storeConfig, err := redisConfig(cfg, g.now, log)
	if err != nil {
		return err
	}
	redis.SetLogger(redisLog{log})
	store, err := redisstore.New(storeConfig)
	if err != nil {
		return err
	}
	defer store.Close()
	journal, err := newJournal(cfg, signing, store, log)
	if err != nil {
		return err
	}
	replayer := &sessions.Replayer{Journal: journal, Store: store, Logger: log}
	wakes := proxy.NewWakeMetrics(metrics)
	waker, err := sessions.NewWaker(sessions.WakerConfig{
		Store: store, Engine: sessions.EngineClient{}, Clusters: clusters, Restore: replayer.Restore, Staged: wakes.Staged, Woken: wakes.Woken,
		Timeout: wakeTimeout(cfg.Clusters), StopTimeout: stopTimeout(cfg.Clusters), Now: g.now, Logger: log,
	})
	if err != nil {
		return err
	}
	defer waker.Close()
	reaper, err := sessions.NewReaper(sessions.ReaperConfig{
		Store: store, Waker: waker, Clusters: clusters, LeaveDelay: leaveDelay(cfg.RegistryGrace), Now: g.now, Logger: log,
	})
	if err != nil {
		return err
	}
	live := proxy.NewLive()
	var manager *sessions.Manager
	resolver, err := sessions.NewResolver(sessions.ResolverConfig{
		Directory: store, Clusters: clusters, Engine: sessions.EngineClient{}, Turns: store, Waker: waker, Uses: store, TouchEvery: touchEvery(cfg.Clusters),
		OnEnd: live.End, OnLate: func(s sessions.Session) { manager.Release(s) }, OnRevoke: live.Revoke, Grace: cfg.RegistryGrace, ReadTimeout: readTimeout(cfg.Redis.Timeout), Now: g.now, Logger: log,
	})
	if err != nil {
		return err
	}
	audit, err := g.auditTrail(store, metrics)
	if err != nil {
		return err
	}
	manager, err = sessions.NewManager(sessions.ManagerConfig{
		Store: store, Tokens: store, Keys: store, Engine: sessions.EngineClient{}, Issuer: issuer, Waker: waker, Clusters: clusters, Deadlines: store, Audit: audit, OnClosed: live.End, Operators: operators(cfg.Auth.Operators),
		TokenLifetime: cfg.Auth.TokenLifetime, MaxTokenLifetime: cfg.Auth.MaxTokenLifetime, Now: g.now, Logger: log,
	})
	if err != nil {
		return err
	}

	uses, err := sessions.NewTokenUses(sessions.TokenUsesConfig{Tokens: store, Logger: log})
	if err != nil {
		return err
	}
	metrics.MustRegister(counter("sconce_token_uses_dropped_total",
		"Uses of tokens that were not written down, since too many tokens were used.", uses.Dropped))

	// What Sconce itself answers.
	endpoint, err := publicEndpoint(cfg)
	if err != nil {
		return err
	}
	controls, err := control.New(control.Config{Sessions: manager, Keys: manager, Clusters: manager, Callers: proxy.NewCallers(cfg.Limits.ControlRequests, g.now), Verifier: principals, Endpoint: endpoint, Streams: resolver.Streams, Version: manager.EngineVersion, UI: clusters.UI, Wakeable: clusters.Wakeable, Expires: manager.Expires, Operations: store.Running, Lost: replayer.LostText, Logger: log})
	if err != nil {
		return err
	}
	asJSON, err := control.NewJSON(controls)
	if err != nil {
		return err
	}
	own, err := proxy.NewOwn(proxy.OwnConfig{Ready: ready, Services: controls.Register, JSON: asJSON, Version: versionText(), Logger: log})
	if err != nil {
		return err
	}
	admin, err := proxy.NewAdmin(proxy.AdminConfig{Ready: ready, Metrics: metrics, Logger: log})
	if err != nil {
		return err
	}
	services, closeServices, err := ownServices(own, limits, log)
	if err != nil {
		return err
	}
	defer closeServices()

	// From a stream to where it goes.
	dialer := &proxy.EngineDialer{Limits: limits, Logger: log}
	router, err := proxy.NewRouter(proxy.RouterConfig{
		Verifier: principals, Resolver: resolver, Live: live, Engines: dialer.Backend, Services: services, Own: proxy.OwnLimits{Calls: cfg.Limits.ControlStreams},
		MaxMessage: uint64(cfg.MaxMessage), HoldTimeout: cfg.HoldTimeout, Quotas: quotas(cfg.Limits), Uses: uses,
		Journal: journal, JournalLimits: proxy.JournalLimits{Entry: int(cfg.Journal.Bytes), Artifacts: int(cfg.Journal.Artifacts)},
		Registerer: metrics, Logger: log, Now: g.now,
	})
	if err != nil {
		return err
	}
	server, err := relay.NewServer(relay.ServerConfig{Router: router, Limits: limits, MaxAge: cfg.MaxConnectionAge, Logger: log})
	if err != nil {
		return err
	}
	refusing, err := relay.NewServer(relay.ServerConfig{Router: proxy.Plaintext{}, Limits: limits, Logger: log})
	if err != nil {
		return err
	}

	// The port.
	certificates, err := g.certificates()
	if err != nil {
		return err
	}
	port, err := proxy.NewPort(proxy.PortConfig{
		HTTP2: server.ServeConn, Plain: refusing.ServeConn, HTTP1: own.ServeHTTP1,
		TLS: certificates.TLS(), RequireTLS: cfg.TLS.RequireTLS,
		HandshakeTimeout: cfg.Limits.HandshakeTimeout,
		Connections:      cfg.Limits.Connections, ConnectionsPerIP: cfg.Limits.ConnectionsPerIP,
		Stalled: stalled(ready), Logger: log,
	})
	if err != nil {
		return err
	}
	metrics.MustRegister(port)

	// Life. What serves the port outlives it, since what is running needs it.
	behind, endBehind := context.WithCancel(context.WithoutCancel(ctx))
	defer endBehind()
	group, behind := errgroup.WithContext(behind)
	front, endFront := context.WithCancel(behind)
	defer endFront()
	for _, run := range []func(context.Context) error{
		keys.Run, outside.Run, certificates.Run, resolver.Run, reaper.Run, journal.Run, manager.Run, audit.Run, uses.Run, router.Run, own.Run, paceCollector,
		func(ctx context.Context) error { return runAll(ctx, engines) },
		func(ctx context.Context) error { return g.takeOver(ctx, server) },
		func(ctx context.Context) error { return g.watchRedis(ctx, store, ready) },
		func(ctx context.Context) error { return g.announce(ctx, ready, listener.Addr().String()) },
		func(ctx context.Context) error { return serveAdmin(ctx, admin, adminListener) },
		func(context.Context) error { return port.Serve(front, listener) },
	} {
		group.Go(func() error { return asked(behind, run(behind)) })
	}
	ready.Met(needPort)
	select {
	case <-ctx.Done():
	case <-behind.Done(): // a part failed
	}
	ready.Fail(needStay, "stopping")
	endFront()
	defer time.AfterFunc(ownLast, router.EndOwn).Stop()
	cut := g.drain(server, refusing, own)
	endBehind()
	return errors.Join(group.Wait(), cut)
}

// ownLast is what calls of Sconce's own services get when a drain begins: time for who
// watches to be told, and for the others to end.
const ownLast = 2 * time.Second

// takeOver takes over what configurations say that come while it serves; which keys
// those are is in package configs.
func (g *gateway) takeOver(ctx context.Context, server *relay.Server) error {
	for {
		select {
		case c := <-g.updates:
			server.SetMaxAge(c.MaxConnectionAge)
			g.drainFor.Store(int64(c.DrainTimeout))
		case <-ctx.Done():
			return nil
		}
	}
}

// drain lets what is running finish. It returns errCut if somebody would not wait.
func (g *gateway) drain(servers ...interface{ Shutdown(context.Context) error }) error {
	timeout := time.Duration(g.drainFor.Load())
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	impatient := make(chan error, 1)
	go func() {
		select {
		case <-g.cut:
			cancel()
			impatient <- errCut
		case <-ctx.Done():
			impatient <- nil
		}
	}()
	var late error
	for _, s := range servers {
		late = errors.Join(late, s.Shutdown(ctx))
	}
	timeUp := errors.Is(ctx.Err(), context.DeadlineExceeded)
	cancel()
	if late == nil {
		return nil
	}
	if timeUp {
		g.log.Warn("drain_timeout passed: what was still running is cut", zap.Duration("drain_timeout", timeout))
	}
	return <-impatient
}

// announce calls ready the first time that traffic may come.
func (g *gateway) announce(ctx context.Context, ready *proxy.Ready, address string) error {
	for {
		unmet, changed := ready.Unmet()
		if len(unmet) == 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	g.log.Info("serving", zap.String("address", address), zap.String("version", versionText()))
	if g.ready != nil {
		g.ready()
	}
	return nil
}

// pingEvery is how often Redis is asked whether it is there.
const pingEvery = time.Second

// watchRedis keeps needRedis true to what Redis says. Until it first answers as
// it should, nothing is ready; later it may be away for as long as known
// sessions go on without it. It fails for a Redis that may evict sessions.
func (g *gateway) watchRedis(ctx context.Context, store *redisstore.Store, ready *proxy.Ready) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	ask := store.Check
	answered := time.Time{}
	for {
		err := ask(ctx)
		switch {
		case err == nil:
			ask, answered = store.Ping, time.Now()
			ready.Met(needRedis)
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, sessions.ErrUnavailable):
			return err
		case time.Since(answered) > g.cfg.RegistryGrace:
			ready.Fail(needRedis, fmt.Sprintf("%v: check that it runs at %s", err, g.cfg.Redis.Addresses))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
