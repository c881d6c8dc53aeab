package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// OwnConfig says what Sconce itself answers on the port.
type OwnConfig struct {
	// Ready is what /readyz and grpc.health.v1 tell.
	Ready *Ready
	// Services are registered on the gRPC server beside grpc.health.v1.
	Services func(grpc.ServiceRegistrar)
	// Options are for the gRPC server, stronger than its own.
	Options []grpc.ServerOption
	// JSON answers /openapi.json and all that begins with /v1/; nil = there is no
	// such page. It gets the address of who calls as PeerHeader.
	JSON http.Handler
	// Version is told on the page at "/".
	Version string
	// Logger may be nil.
	Logger *zap.Logger
}

// Own is Sconce's own services: a gRPC server and an HTTP server. Both stand on
// listeners in memory, so that the relay forwards to them as to any backend; the
// HTTP server also takes over connections of HTTP/1.1 as they are.
//
//	relay  -- DialGRPC --> memory --> grpc-go: SessionService, grpc.health.v1
//	       -- DialHTTP --> memory --> net/http: /, /healthz, /readyz, /v1/
//	port   -- ServeHTTP1 ------------^
type Own struct {
	cfg            OwnConfig
	grpcIn, httpIn *Memory
	grpc           *grpc.Server
	health         *health.Server
	http           *http.Server

	mu   sync.Mutex
	over map[net.Conn]chan struct{} // connections that came by ServeHTTP1
}

// NewOwn builds the servers; Run starts them.
func NewOwn(cfg OwnConfig) (*Own, error) {
	if cfg.Ready == nil {
		return nil, errors.New("proxy: the own services need Ready")
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	o := &Own{
		cfg: cfg, grpcIn: NewMemory("own grpc"), httpIn: NewMemory("own http"),
		grpc: grpc.NewServer(append([]grpc.ServerOption{grpc.MaxRecvMsgSize(mostRequest)}, cfg.Options...)...), health: health.NewServer(),
		over: map[net.Conn]chan struct{}{},
	}
	healthpb.RegisterHealthServer(o.grpc, o.health)
	if cfg.Services != nil {
		cfg.Services(o.grpc)
	}
	o.http = &http.Server{
		Handler: o.handler(), Protocols: new(http.Protocols), ConnState: o.connState,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: zap.NewStdLog(cfg.Logger),
	}
	o.http.Protocols.SetHTTP1(true)
	o.http.Protocols.SetUnencryptedHTTP2(true)
	return o, nil
}

// Services returns what the router is to know of all that is served here: the gRPC
// services by way of one backend, the pages and the API by JSON by way of the other.
func (o *Own) Services(rpc, pages *relay.Backend) []Service {
	list := []Service{{Name: "http", Prefix: "/", Backend: pages, Open: true}}
	if o.cfg.JSON != nil {
		list = append(list, Service{Name: "json", Prefix: "/v1/", Backend: pages})
	}
	for name := range o.grpc.GetServiceInfo() {
		open := name == healthpb.Health_ServiceDesc.ServiceName
		list = append(list, Service{Name: name, Prefix: "/" + name + "/", Backend: rpc, GRPC: true, Open: open})
	}
	return list
}

// DialGRPC and DialHTTP connect to the servers; for relay.BackendConfig.Dial.
func (o *Own) DialGRPC(ctx context.Context) (net.Conn, error) { return o.grpcIn.Dial(ctx) }
func (o *Own) DialHTTP(ctx context.Context) (net.Conn, error) { return o.httpIn.Dial(ctx) }

// ServeHTTP1 serves a connection that speaks HTTP/1.1 until it is over.
func (o *Own) ServeHTTP1(conn net.Conn) {
	over := make(chan struct{})
	o.mu.Lock()
	o.over[conn] = over
	o.mu.Unlock()
	if err := o.httpIn.hand(context.Background(), conn); err != nil {
		o.connState(conn, http.StateClosed)
	}
	<-over
}

// connState ends ServeHTTP1 with its connection.
func (o *Own) connState(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if over, ok := o.over[conn]; ok {
		close(over)
		delete(o.over, conn)
	}
}

// Run serves until ctx ends, then lets what is running finish for a second.
func (o *Own) Run(ctx context.Context) error {
	var servers sync.WaitGroup
	failed := make(chan error, 2)
	servers.Go(func() { failed <- o.grpc.Serve(o.grpcIn) })
	servers.Go(func() { failed <- o.http.Serve(o.httpIn) })
	err := o.follow(ctx, failed)
	o.stop()
	servers.Wait()
	return err
}

// follow keeps grpc.health.v1 at what Ready says, until ctx ends or a server does.
func (o *Own) follow(ctx context.Context, failed <-chan error) error {
	for {
		unmet, changed := o.cfg.Ready.Unmet()
		status := healthpb.HealthCheckResponse_SERVING
		if len(unmet) > 0 {
			status = healthpb.HealthCheckResponse_NOT_SERVING
		}
		o.health.SetServingStatus("", status)
		select {
		case <-changed:
		case err := <-failed:
			if errors.Is(err, http.ErrServerClosed) {
				continue // Shutdown
			}
			return fmt.Errorf("own server stopped: %w", err)
		case <-ctx.Done():
			return nil
		}
	}
}

// Shutdown lets requests by HTTP/1.1 finish, until ctx ends; no more come. Those by
// HTTP/2 are streams of the relay, which has ended them.
func (o *Own) Shutdown(ctx context.Context) error { return o.http.Shutdown(ctx) }

// stopTime is what is left running gets at the end: nothing, where all was shut down.
const stopTime = time.Second

func (o *Own) stop() {
	o.health.Shutdown()
	timer := time.AfterFunc(stopTime, o.grpc.Stop)
	defer timer.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if o.http.Shutdown(ctx) != nil {
		o.http.Close()
	}
	o.httpIn.Close()
	o.grpc.GracefulStop()
	o.grpcIn.Close()
}

func (o *Own) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", o.page)
	addHealth(mux, o.cfg.Ready, toldStrangers)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.tellPeer(r)
		// Not by way of mux, which sends paths that it would write otherwise elsewhere.
		if o.cfg.JSON != nil && (r.URL.Path == "/openapi.json" || strings.HasPrefix(r.URL.Path, "/v1/")) {
			o.cfg.JSON.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// tellPeer makes PeerHeader true. What came by the relay has it from the router;
// on a connection that was taken over the client may have written anything.
func (o *Own) tellPeer(r *http.Request) {
	if r.RemoteAddr == o.httpIn.Addr().String() {
		return
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Sconce-") {
			r.Header.Del(name)
		}
	}
	r.Header.Set(PeerHeader, r.RemoteAddr)
}

// page tells whoever opens the port in a browser what it is.
func (o *Own) page(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, fmt.Sprintf("Sconce %s, a Spark Connect gateway.\n\n"+
		"This port is for Spark clients: %s\n"+
		"Make a session with `sconce session create`, and its token with `sconce token issue <session>`.\n\n"+
		"/healthz       is the process alive\n/readyz        should traffic come here\n/openapi.json  sessions and tokens by JSON\n", o.cfg.Version, spell))
}

// addHealth adds /healthz, which holds while the process can answer, and /readyz, which
// holds while every condition does. Both speak JSON to who asks for it. told is what
// /readyz tells besides yes or no.
func addHealth(mux *http.ServeMux, ready *Ready, told func(*Ready) (unmet, notes []Unmet)) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { healthAnswer(w, r, nil, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		unmet, notes := told(ready)
		healthAnswer(w, r, unmet, notes)
	})
}

// toldStrangers is what anybody may know: which conditions do not hold. Reasons have
// addresses of Redis and issuers in them, and notes whom this installation trusts.
func toldStrangers(ready *Ready) (unmet, notes []Unmet) {
	unmet, _ = ready.Unmet()
	for i := range unmet {
		unmet[i].Reason = ""
	}
	return unmet, nil
}

// toldOperators is all.
func toldOperators(ready *Ready) (unmet, notes []Unmet) {
	unmet, _ = ready.Unmet()
	return unmet, ready.Notes()
}

func healthAnswer(w http.ResponseWriter, r *http.Request, unmet, notes []Unmet) {
	status, word := http.StatusOK, "ok"
	if len(unmet) > 0 {
		status, word = http.StatusServiceUnavailable, "not ready"
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(struct {
			Status string  `json:"status"`
			Unmet  []Unmet `json:"unmet,omitempty"`
			Notes  []Unmet `json:"notes,omitempty"`
		}{word, unmet, notes})
		return
	}
	lines := word + "\n"
	for _, u := range append(unmet, notes...) {
		lines += u.Condition
		if u.Reason != "" {
			lines += ": " + u.Reason
		}
		lines += "\n"
	}
	text(w, status, lines)
}

func text(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}
