package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
)

// This file makes parts of the gateway that take more than an assignment.

// listenAdmin opens the admin listener, or returns nil if there is to be none.
func (g *gateway) listenAdmin(ctx context.Context) (net.Listener, error) {
	if g.cfg.Admin.Listen == "" {
		return nil, nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", g.cfg.Admin.Listen)
	if err != nil {
		return nil, listenError("admin.listen", g.cfg.Admin.Listen, err)
	}
	return ln, nil
}

// serveAdmin serves where there is a listener.
func serveAdmin(ctx context.Context, admin *proxy.Admin, ln net.Listener) error {
	if ln == nil {
		return nil
	}
	return admin.Serve(ctx, ln)
}

// asked is nil for a part that ended because ctx did.
func asked(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// clientAuth is tls.client_auth as crypto/tls has it.
func clientAuth(asks string) tls.ClientAuthType {
	switch asks {
	case "request":
		return tls.VerifyClientCertIfGiven
	case "require":
		return tls.RequireAndVerifyClientCert
	}
	return tls.NoClientCert
}

// certificate is the port's, if it has one.
type certificate struct{ *proxy.Certificates }

func (c certificate) TLS() *tls.Config {
	if c.Certificates == nil {
		return nil
	}
	return c.Certificates.TLS()
}

func (c certificate) Run(ctx context.Context) error {
	if c.Certificates == nil {
		return nil
	}
	return c.Certificates.Run(ctx)
}

func (g *gateway) certificates() (certificate, error) {
	if g.cfg.TLS.Cert == "" {
		return certificate{}, nil
	}
	c, err := proxy.NewCertificates(proxy.CertificatesConfig{
		Cert: g.cfg.TLS.Cert, Key: g.cfg.TLS.Key, Logger: g.log,
		ClientAuth: clientAuth(g.cfg.TLS.ClientAuth), ClientCA: g.cfg.TLS.ClientCA,
	})
	return certificate{c}, err
}

// stalled makes the port's lack of file descriptors a reason not to be ready.
func stalled(ready *proxy.Ready) func(error) {
	return func(err error) {
		if err != nil {
			ready.Fail(needPort, "no file descriptors are left: raise the limit of open files")
			return
		}
		ready.Met(needPort)
	}
}

// ownServices makes Sconce's own servers backends of the router.
func ownServices(own *proxy.Own, limits relay.Limits, log *zap.Logger) (list []proxy.Service, closeAll func(), err error) {
	rpc, err := relay.NewBackend(relay.BackendConfig{Name: "own grpc", Own: true, Dial: own.DialGRPC, Limits: limits, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	pages, err := relay.NewBackend(relay.BackendConfig{Name: "own http", Own: true, Dial: own.DialHTTP, Limits: limits, Logger: log})
	if err != nil {
		rpc.Close()
		return nil, nil, err
	}
	return own.Services(rpc, pages), func() { rpc.Close(); pages.Close() }, nil
}

// auditTrail is where the decisions go besides the log; nowhere, if so configured.
func (g *gateway) auditTrail(store sessions.AuditStore, metrics prometheus.Registerer) (*sessions.AuditQueue, error) {
	if g.cfg.Audit.Entries == 0 {
		store = nowhere{}
	}
	q, err := sessions.NewAuditQueue(sessions.AuditQueueConfig{Store: store, Logger: g.log})
	if err != nil {
		return nil, err
	}
	return q, metrics.Register(counter("sconce_audit_dropped_total",
		"Decisions that are in the log and not in the audit stream.", q.Dropped))
}

// nowhere keeps no decisions.
type nowhere struct{}

func (nowhere) AppendAudit(context.Context, []sessions.AuditEntry) error { return nil }

// counter makes a metric of what a part counts itself.
func counter(name, help string, value func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
}

// redisLog takes what go-redis says of its connections into our log. Its logger
// is one for the process, so the last gateway that was started has it.
type redisLog struct{ log *zap.Logger }

// Printf is go-redis's idea of a logger.
func (l redisLog) Printf(_ context.Context, format string, args ...any) {
	l.log.Debug(fmt.Sprintf(format, args...))
}

// newJournal keeps what a new engine needs, by keys of the configuration or one that
// is derived from the signing key.
func newJournal(cfg *configs.Config, signing *auth.SigningKey, store *redisstore.Store, log *zap.Logger) (*sessions.Journal, error) {
	keys, err := journalKeys(cfg.Journal.KeyFile, signing)
	if err != nil {
		return nil, err
	}
	return sessions.NewJournal(sessions.JournalConfig{Store: store, Keys: keys, Carried: store, Logger: log})
}

// journalKeys are those of the file. What was written while there was none is read, too.
func journalKeys(file string, signing *auth.SigningKey) (*sessions.JournalKeys, error) {
	derived, err := signing.Derive("journal")
	if err != nil {
		return nil, err
	}
	if file != "" {
		return sessions.LoadJournalKeys(file, derived)
	}
	return sessions.NewJournalKeys(derived)
}
