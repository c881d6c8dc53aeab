package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// AdminConfig says what operators can see.
type AdminConfig struct {
	Ready   *Ready
	Metrics prometheus.Gatherer
	// Logger may be nil.
	Logger *zap.Logger
}

// Admin is the listener for operators, apart from the port and without a
// password: /metrics, /debug/pprof, /healthz, /readyz.
type Admin struct {
	server *http.Server
}

// NewAdmin builds the server; Serve starts it.
func NewAdmin(cfg AdminConfig) (*Admin, error) {
	if cfg.Ready == nil || cfg.Metrics == nil {
		return nil, errors.New("proxy: the admin listener needs Ready and Metrics")
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	mux := http.NewServeMux()
	addHealth(mux, cfg.Ready, toldOperators)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{ErrorLog: zap.NewStdLog(cfg.Logger)}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &Admin{server: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: zap.NewStdLog(cfg.Logger),
	}}, nil
}

// Serve answers on ln until ctx ends. A profile that is running is cut.
func (a *Admin) Serve(ctx context.Context, ln net.Listener) error {
	stopped := context.AfterFunc(ctx, func() { a.server.Close() })
	defer stopped()
	if err := a.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
