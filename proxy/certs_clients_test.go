package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// handshakes says whether the port takes a client that shows this certificate. With
// TLS 1.3 a client learns by its first read.
func handshakes(t *testing.T, server *tls.Config, client *tls.Config) error {
	t.Helper()
	ln := proxytest.TCP(t)
	done := make(chan error, 1)
	go func() {
		far, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer far.Close()
		_ = far.SetDeadline(time.Now().Add(20 * time.Second))
		conn := tls.Server(far, server)
		if err = conn.Handshake(); err == nil {
			_, err = conn.Write([]byte("ok"))
		}
		done <- err
	}()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	_ = near.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.ReadFull(tls.Client(near, client), make([]byte, 2))
	near.Close()
	return errors.Join(err, <-done)
}

func TestClientCertificates(t *testing.T) {
	own, foreign := proxytest.NewCerts(t), proxytest.NewCerts(t)
	good, stranger := own.Pair(t, "alice"), foreign.Pair(t, "alice")
	for _, tc := range []struct {
		name    string
		auth    tls.ClientAuthType
		shows   []tls.Certificate
		refused bool
	}{
		{"none asked, none shown", tls.NoClientCert, nil, false},
		{"none asked, one shown", tls.NoClientCert, []tls.Certificate{good}, false},
		{"asked, none shown", tls.VerifyClientCertIfGiven, nil, false},
		{"asked, a good one", tls.VerifyClientCertIfGiven, []tls.Certificate{good}, false},
		{"asked, another authority's", tls.VerifyClientCertIfGiven, []tls.Certificate{stranger}, true},
		{"required, none shown", tls.RequireAndVerifyClientCert, nil, true},
		{"required, a good one", tls.RequireAndVerifyClientCert, []tls.Certificate{good}, false},
		{"required, another authority's", tls.RequireAndVerifyClientCert, []tls.Certificate{stranger}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := proxy.CertificatesConfig{Cert: own.CertFile, Key: own.KeyFile, ClientAuth: tc.auth}
			if tc.auth != tls.NoClientCert {
				cfg.ClientCA = own.CAFile
			}
			c, err := proxy.NewCertificates(cfg)
			if err != nil {
				t.Fatal(err)
			}
			client := own.Client.Clone()
			// Whatever the server says that it believes: clients do not keep to that.
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(tc.shows) == 0 {
					return &tls.Certificate{}, nil
				}
				return &tc.shows[0], nil
			}
			if err := handshakes(t, c.TLS(), client); (err != nil) != tc.refused {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A new authority counts from when it was noticed, the old one no longer, also for
// who comes back with the ticket of a session.
func TestClientAuthorityFollowsItsFile(t *testing.T) {
	own, next := proxytest.NewCerts(t), proxytest.NewCerts(t)
	file := filepath.Join(t.TempDir(), "clients.pem")
	copyFile(t, own.CAFile, file)
	c, err := proxy.NewCertificates(proxy.CertificatesConfig{
		Cert: own.CertFile, Key: own.KeyFile, ClientAuth: tls.RequireAndVerifyClientCert, ClientCA: file, Every: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	server := c.TLS()
	of := func(certs *proxytest.Certs) *tls.Config {
		conf := own.Client.Clone()
		conf.Certificates = []tls.Certificate{certs.Pair(t, "alice")}
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		return conf
	}
	old, fresh := of(own), of(next)
	if err := handshakes(t, server, old); err != nil {
		t.Fatal(err)
	}
	if handshakes(t, server, fresh) == nil {
		t.Fatal("an authority that is not ours was believed")
	}
	if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Millisecond)
	if err := handshakes(t, server, old); err != nil {
		t.Errorf("while the file is no good: %v", err)
	}
	copyFile(t, next.CAFile, file)
	deadline := time.Now().Add(10 * time.Second)
	for handshakes(t, server, fresh) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the new authority was not noticed")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if handshakes(t, server, old) == nil {
		t.Error("the old authority is still believed")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestClientAuthNeedsAnAuthority(t *testing.T) {
	own := proxytest.NewCerts(t)
	for name, file := range map[string]string{"none": "", "no PEM": own.KeyFile} {
		_, err := proxy.NewCertificates(proxy.CertificatesConfig{
			Cert: own.CertFile, Key: own.KeyFile, ClientAuth: tls.RequireAndVerifyClientCert, ClientCA: file,
		})
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A pair that was renewed is served also where the authorities of clients, written at
// the same moment, are no good.
func TestCertificateIsRenewedBesideABadAuthority(t *testing.T) {
	own, next := proxytest.NewCerts(t), proxytest.NewCerts(t)
	dir := t.TempDir()
	cert, key, ca := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	copyFile(t, own.CertFile, cert)
	copyFile(t, own.KeyFile, key)
	copyFile(t, own.CAFile, ca)
	c, err := proxy.NewCertificates(proxy.CertificatesConfig{
		Cert: cert, Key: key, ClientAuth: tls.RequireAndVerifyClientCert, ClientCA: ca, Every: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	served := func() string {
		pair, err := c.TLS().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(pair.Leaf.Raw)
	}
	before := served()
	if err := os.WriteFile(ca, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	copyFile(t, next.CertFile, cert)
	copyFile(t, next.KeyFile, key)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }() // its first look finds all three
	defer func() { cancel(); <-ran }()
	deadline := time.Now().Add(10 * time.Second)
	for served() == before {
		if time.Now().After(deadline) {
			t.Fatal("the renewed certificate is not served")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
