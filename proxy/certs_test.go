package proxy

import (
	"context"
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
	"testing"
	"testing/synctest"
	"time"
)

// pairPEM makes a self-signed certificate for localhost.
func pairPEM(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// certFiles writes a pair and returns a config for it, and a function that
// writes another.
func certFiles(t *testing.T) (CertificatesConfig, func(cert, key []byte)) {
	t.Helper()
	dir := t.TempDir()
	cfg := CertificatesConfig{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	write := func(cert, key []byte) {
		t.Helper()
		if err := os.WriteFile(cfg.Cert, cert, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cfg.Key, key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(pairPEM(t, 1))
	return cfg, write
}

func serial(t *testing.T, c *Certificates) int64 {
	t.Helper()
	pair, err := c.TLS().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.Int64()
}

func TestCertificatesFollowTheirFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, write := certFiles(t)
		c, err := NewCertificates(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- c.Run(ctx) }()
		look := func() { time.Sleep(6 * time.Second); synctest.Wait() } // of the bubble's time

		second, secondKey := pairPEM(t, 2)
		write(second, secondKey)
		look()
		if got := serial(t, c); got != 2 {
			t.Errorf("after the files changed: certificate %d, want 2", got)
		}
		third, thirdKey := pairPEM(t, 3)
		write(third, secondKey)
		look()
		if got := serial(t, c); got != 2 {
			t.Errorf("while the key is not the certificate's: certificate %d, want 2", got)
		}
		write(third, thirdKey)
		look()
		if got := serial(t, c); got != 3 {
			t.Errorf("when both are there: certificate %d, want 3", got)
		}
		os.Remove(cfg.Cert)
		look()
		if got := serial(t, c); got != 3 {
			t.Errorf("when a file is gone: certificate %d, want 3", got)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func TestCertificatesRefusesABadPairAtTheStart(t *testing.T) {
	cfg, write := certFiles(t)
	cert, _ := pairPEM(t, 1)
	_, key := pairPEM(t, 2)
	write(cert, key)
	if _, err := NewCertificates(cfg); err == nil {
		t.Error("a key that is another's was taken")
	}
	cfg.Key = filepath.Join(t.TempDir(), "gone")
	if _, err := NewCertificates(cfg); err == nil {
		t.Error("a key that is not there was taken")
	}
}
