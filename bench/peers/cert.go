package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate is the front's certificate: ECDSA P-256, signed by itself, good
// for a day.
type Certificate struct {
	// Cert, Key and Both are PEM files; Both is what HAProxy wants.
	Cert, Key, Both string

	roots *x509.CertPool
}

// NewCertificate makes a certificate in dir for the loopback address.
func NewCertificate(dir string) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := selfSigned(key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	c := &Certificate{
		Cert:  filepath.Join(dir, "cert.pem"),
		Key:   filepath.Join(dir, "key.pem"),
		Both:  filepath.Join(dir, "both.pem"),
		roots: x509.NewCertPool(),
	}
	c.roots.AppendCertsFromPEM(certPEM)
	for path, data := range map[string][]byte{c.Cert: certPEM, c.Key: keyPEM, c.Both: append(certPEM, keyPEM...)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func selfSigned(key *ecdsa.PrivateKey) ([]byte, error) {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "sconce bench"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{"localhost"},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}

// Client is what a client that trusts the certificate uses: TLS 1.3, HTTP/2 by ALPN.
func (c *Certificate) Client() *tls.Config {
	return &tls.Config{
		RootCAs:    c.roots,
		ServerName: "localhost",
		NextProtos: []string{"h2"},
		MinVersion: tls.VersionTLS13,
	}
}

// tlsSuite is the one cipher suite that every peer is held to, in OpenSSL's words.
const tlsSuite = "TLS_AES_128_GCM_SHA256"
