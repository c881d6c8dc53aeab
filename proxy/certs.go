package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// CertificatesConfig names a certificate and its key.
type CertificatesConfig struct {
	// Cert and Key are PEM files; Cert holds the chain, the leaf first.
	Cert, Key string
	// ClientAuth says what clients must show; 0 = nothing. ClientCA is the PEM file of
	// the authorities that sign it, required with any other.
	ClientAuth tls.ClientAuthType
	ClientCA   string
	// Every is how often the files are looked at; 0 = 5 s.
	Every time.Duration
	// Logger may be nil.
	Logger *zap.Logger
}

// Certificates is a certificate, and the authorities of those that clients show,
// that follow their files. While Run runs, a new
// pair is served from the handshake after it was noticed; a pair that does not
// fit together (it is being written, or is wrong) is logged once and the last
// good one stays.
type Certificates struct {
	cfg  CertificatesConfig
	log  *zap.Logger
	seen [3][]byte // what the files held when last looked at; Run's
	pair atomic.Pointer[tls.Certificate]
	// clients is how connections are served where clients show certificates.
	clients atomic.Pointer[tls.Config]
}

// NewCertificates reads the pair, which must be good.
func NewCertificates(cfg CertificatesConfig) (*Certificates, error) {
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	c := &Certificates{cfg: cfg, log: cfg.Logger}
	if _, err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// TLS returns the port's configuration: TLS 1.2 or newer, h2 or http/1.1.
func (c *Certificates) TLS() *tls.Config {
	conf := c.base()
	if clients := c.clients.Load(); clients != nil {
		conf.ClientAuth, conf.ClientCAs = clients.ClientAuth, clients.ClientCAs
		conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.clients.Load(), nil }
	}
	return conf
}

func (c *Certificates) base() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
	}
}

// Run looks at the files until ctx ends.
func (c *Certificates) Run(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch changed, err := c.reload(); {
		case err != nil:
			c.log.Error("the new certificate is not usable, the old one stays", zap.String("cert", c.cfg.Cert), zap.Error(err))
		case changed:
			c.log.Info("certificate changed", zap.String("cert", c.cfg.Cert), zap.Time("expires", c.pair.Load().Leaf.NotAfter))
		}
	}
}

// reload takes the pair over if the files differ from when they were last
// looked at. It compares what they hold and not their times: files that come
// through a link (a Kubernetes secret) or a copy keep old ones.
func (c *Certificates) reload() (changed bool, err error) {
	cert, certErr := os.ReadFile(c.cfg.Cert)
	key, keyErr := os.ReadFile(c.cfg.Key)
	ca, caErr := c.readCA()
	if c.pair.Load() != nil && bytes.Equal(cert, c.seen[0]) && bytes.Equal(key, c.seen[1]) && bytes.Equal(ca, c.seen[2]) {
		return false, nil
	}
	newCA := c.pair.Load() == nil || !bytes.Equal(ca, c.seen[2])
	c.seen = [3][]byte{cert, key, ca}
	// Each is taken by itself: what is wrong with one keeps nobody from the other.
	if c.cfg.ClientAuth != tls.NoClientCert && newCA {
		if caErr == nil {
			caErr = c.trust(ca)
		}
		changed = caErr == nil
	}
	renewed, pairErr := c.renew(cert, key, errors.Join(certErr, keyErr))
	return changed || renewed, errors.Join(caErr, pairErr)
}

// renew takes the pair that was read.
func (c *Certificates) renew(cert, key []byte, err error) (changed bool, _ error) {
	if err != nil {
		return false, fmt.Errorf("certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("certificate %s with key %s: %w", c.cfg.Cert, c.cfg.Key, err)
	}
	old := c.pair.Swap(&pair)
	return old == nil || !old.Leaf.Equal(pair.Leaf), nil
}

func (c *Certificates) readCA() ([]byte, error) {
	if c.cfg.ClientAuth == tls.NoClientCert {
		return nil, nil
	}
	ca, err := os.ReadFile(c.cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("authorities of client certificates: %w", err)
	}
	return ca, nil
}

// trust has the certificates of clients checked by these authorities from here on.
// Session tickets of before are checked by them too (crypto/tls does that).
func (c *Certificates) trust(ca []byte) error {
	conf := c.base()
	conf.ClientAuth, conf.ClientCAs = c.cfg.ClientAuth, x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(ca) {
		return fmt.Errorf("no certificate of an authority in %s", c.cfg.ClientCA)
	}
	c.clients.Store(conf)
	return nil
}
