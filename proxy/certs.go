package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
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
	// Every is how often the files are looked at; 0 = 5 s.
	Every time.Duration
	// Logger may be nil.
	Logger *zap.Logger
}

// Certificates is a certificate that follows its files. While Run runs, a new
// pair is served from the handshake after it was noticed; a pair that does not
// fit together (it is being written, or is wrong) is logged once and the last
// good one stays.
type Certificates struct {
	cfg  CertificatesConfig
	log  *zap.Logger
	seen [2][]byte // what the files held when last looked at; Run's
	pair atomic.Pointer[tls.Certificate]
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
	if c.pair.Load() != nil && bytes.Equal(cert, c.seen[0]) && bytes.Equal(key, c.seen[1]) {
		return false, nil
	}
	c.seen = [2][]byte{cert, key}
	for _, err := range []error{certErr, keyErr} {
		if err != nil {
			return false, fmt.Errorf("certificate: %w", err)
		}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("certificate %s with key %s: %w", c.cfg.Cert, c.cfg.Key, err)
	}
	old := c.pair.Swap(&pair)
	return old == nil || !old.Leaf.Equal(pair.Leaf), nil
}
