package sessions

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// ClusterTLS says which certificate a cluster must show, and which one is shown to it.
// It is used by its pointer and not copied.
type ClusterTLS struct {
	// CAFile is a PEM file of the authorities to trust; "" = the system's.
	CAFile string
	// ServerName is the name the certificate must bear; "" = the address's host.
	ServerName string
	// CertFile and KeyFile are PEM files of a client certificate, with its chain, and
	// its key; both "" = none.
	CertFile, KeyFile string

	shown   atomic.Pointer[tls.Certificate] // the last pair that was good
	trusted atomic.Pointer[authorities]     // and the last authorities
}

// authorities are those that a file had.
type authorities struct {
	pool *x509.CertPool
	gone atomic.Int64 // when it was first seen without any, Unix seconds; 0 = it has them
}

// replacing is how long a file may be without authorities that is being replaced. Who
// takes them away for good is not believed them for longer.
const replacing = 60

// TLSConfig returns how to dial the cluster, or nil for HTTP/2 without TLS. The
// files are read again for each connection, so a new one sees what is new. They must be
// good at first (NewClusters sees to that); while they are replaced, which takes two
// steps for a pair, what was good last counts.
func (c *Cluster) TLSConfig() (*tls.Config, error) {
	if c.TLS == nil {
		return nil, nil
	}
	conf, err := c.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return conf, nil
}

func (t *ClusterTLS) config() (*tls.Config, error) {
	conf := &tls.Config{ServerName: t.ServerName, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	if t.CertFile != "" {
		pair, err := t.pair()
		if err != nil {
			return nil, err
		}
		// Not Certificates: it is shown whichever authorities the cluster names.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	if t.CAFile == "" {
		return conf, nil
	}
	var err error
	conf.RootCAs, err = t.roots()
	return conf, err
}

// roots reads the authorities.
func (t *ClusterTLS) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(t.CAFile)
	roots := x509.NewCertPool()
	if err == nil && roots.AppendCertsFromPEM(pem) {
		t.trusted.Store(&authorities{pool: roots})
		return roots, nil
	}
	if last := t.trusted.Load(); last != nil {
		now := time.Now().Unix()
		last.gone.CompareAndSwap(0, now)
		if now-last.gone.Load() < replacing {
			return last.pool, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	return nil, fmt.Errorf("CA file %s holds no certificate", t.CAFile)
}

// pair reads the client certificate.
func (t *ClusterTLS) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err == nil {
		t.shown.Store(&pair)
		return &pair, nil
	}
	if last := t.shown.Load(); last != nil {
		return last, nil
	}
	return nil, fmt.Errorf("client certificate %s with key %s: %w", t.CertFile, t.KeyFile, err)
}
