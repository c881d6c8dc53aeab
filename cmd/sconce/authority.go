package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"slices"
	"time"
)

// Lives of what authority makes. Clients of today refuse a server certificate
// of more than 825 days.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	leafRenew     = 30 * 24 * time.Hour // before its end
)

// authority is the certificate authority of one state folder: made once, so that
// a client has to be told to believe it once.
type authority struct {
	dir  stateDir
	now  func() time.Time
	cert *x509.Certificate
	key  crypto.Signer
}

// openAuthority reads the folder's authority, or makes it.
func openAuthority(dir stateDir, now func() time.Time) (*authority, error) {
	a := &authority{dir: dir, now: now}
	pair, err := tls.LoadX509KeyPair(dir.path(stateCA), dir.path(stateCAKey))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a, a.create()
	case err != nil:
		return nil, fmt.Errorf("the certificate authority in %s is damaged: %w: delete %s and %s, and have clients believe the new one",
			dir, err, dir.path(stateCA), dir.path(stateCAKey))
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s is no key that can sign: delete it", dir.path(stateCAKey))
	}
	a.cert, a.key = pair.Leaf, key
	return a, nil
}

func (a *authority) create() error {
	host, _ := os.Hostname()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Sconce dev authority of " + host},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	cert, key, err := a.sign(template, nil, nil)
	if err != nil {
		return err
	}
	a.cert, a.key = cert, key
	return a.save(stateCA, stateCAKey, cert, key)
}

// leaf returns when the folder holds a certificate for at least these names and
// addresses that is good for a while, making it if need be.
func (a *authority) leaf(hosts []string) error {
	pair, err := tls.LoadX509KeyPair(a.dir.path(stateCert), a.dir.path(stateKey))
	if err == nil && a.good(pair.Leaf, hosts) {
		return nil
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: hosts[0]},
		NotBefore: a.now().Add(-time.Hour), NotAfter: a.now().Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	cert, key, err := a.sign(template, a.cert, a.key)
	if err != nil {
		return err
	}
	return a.save(stateCert, stateKey, cert, key)
}

func (a *authority) good(leaf *x509.Certificate, hosts []string) bool {
	return leaf.CheckSignatureFrom(a.cert) == nil && a.now().Add(leafRenew).Before(leaf.NotAfter) &&
		!slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

// sign makes a key and a certificate for it; without a parent, of itself.
func (a *authority) sign(template, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func (a *authority) save(certName, keyName string, cert *x509.Certificate, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := a.dir.write(keyName, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return err
	}
	return a.dir.write(certName, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}
