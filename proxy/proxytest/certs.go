package proxytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Certs is a private certificate authority with one server certificate, as
// files and as ready configurations for HTTP/2.
type Certs struct {
	CAFile, CertFile, KeyFile string
	// Server presents the certificate; Client trusts the authority and nothing else,
	// and wants the first of the names.
	Server, Client *tls.Config

	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	serial atomic.Int64
}

// Issue makes another certificate of the same authority, for servers and clients, as
// PEM: the certificate, and its key.
func (c *Certs) Issue(t testing.TB, names ...string) (cert, key []byte) {
	t.Helper()
	leaf := c.leaf(names)
	leafKey := newKey(t)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	der := signCert(t, leaf, c.ca, leafKey, c.caKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// Pair is Issue, ready for use.
func (c *Certs) Pair(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.Issue(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (c *Certs) leaf(names []string) *x509.Certificate {
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1 + c.serial.Add(1)), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: c.ca.NotBefore, NotAfter: c.ca.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	return leaf
}

// NewCerts makes a certificate for names, which may be addresses. Without any
// it is for localhost and 127.0.0.1.
func NewCerts(t testing.TB, names ...string) *Certs {
	t.Helper()
	if len(names) == 0 {
		names = []string{"localhost", "127.0.0.1"}
	}
	dir := t.TempDir()
	c := &Certs{
		CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxytest CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c.ca, c.caKey = ca, newKey(t)
	caDER := signCert(t, ca, ca, c.caKey, c.caKey)
	cert, key := c.Issue(t, names...)
	writeFile(t, c.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}))
	writeFile(t, c.CertFile, cert)
	writeFile(t, c.KeyFile, key)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	h2 := []string{"h2"}
	c.Server = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: h2,
		Certificates: []tls.Certificate{pair},
	}
	c.Client = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: h2, RootCAs: roots, ServerName: names[0]}
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signCert(t testing.TB, cert, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
