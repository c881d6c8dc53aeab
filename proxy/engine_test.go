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
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

func TestClustersShareAnEngineOnlyIfAllIsEqual(t *testing.T) {
	base := func() *sessions.Cluster {
		return &sessions.Cluster{Name: "a", Address: "a:1", Token: "t", TLS: &sessions.ClusterTLS{CAFile: "ca", ServerName: "n"}}
	}
	es := engines{dial: noDial, known: map[engineKey]*engine{}}
	defer es.close()
	first, err := es.of(base())
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := es.of(base()); again != first {
		t.Error("an equal cluster got another engine")
	}
	for name, change := range map[string]func(*sessions.Cluster){
		"name":        func(c *sessions.Cluster) { c.Name = "b" },
		"address":     func(c *sessions.Cluster) { c.Address = "a:2" },
		"token":       func(c *sessions.Cluster) { c.Token = "u" },
		"no TLS":      func(c *sessions.Cluster) { c.TLS = nil },
		"CA":          func(c *sessions.Cluster) { c.TLS.CAFile = "other" },
		"server name": func(c *sessions.Cluster) { c.TLS.ServerName = "m" },
		"certificate": func(c *sessions.Cluster) { c.TLS.CertFile = "other" },
		"key":         func(c *sessions.Cluster) { c.TLS.KeyFile = "other" },
	} {
		c := base()
		change(c)
		if other, _ := es.of(c); other == first {
			t.Errorf("%s: shared", name)
		}
	}
}

func TestEngineThatCannotBeMade(t *testing.T) {
	tr := newTestRouter(t, func(c *RouterConfig) {
		c.Engines = func(*sessions.Cluster) (*relay.Backend, error) { return nil, errors.New("no CA at /secret/path") }
	})
	s := tr.send(sparkHead("Config"))
	st := statusOf(t, s.reply)
	if info, _ := detailsOf(t, st); info.GetReason() != "INTERNAL" || strings.Contains(st.Message, "secret") {
		t.Errorf("got %v", st)
	}
}

func TestConnect(t *testing.T) {
	cert, caFile := selfSigned(t, "engine.test")
	for _, tc := range []struct {
		name   string
		tls    *sessions.ClusterTLS
		alpn   []string // of the server; nil = it speaks no TLS
		wanted string   // in the error; "" = none
	}{
		{"plaintext", nil, nil, ""},
		{"TLS", &sessions.ClusterTLS{CAFile: caFile, ServerName: "engine.test"}, []string{"h2"}, ""},
		{"TLS by the address", &sessions.ClusterTLS{CAFile: caFile}, []string{"h2"}, ""},
		{"wrong name", &sessions.ClusterTLS{CAFile: caFile, ServerName: "other.test"}, []string{"h2"}, "other.test"},
		{"no CA file", &sessions.ClusterTLS{CAFile: "/nowhere/ca.pem"}, []string{"h2"}, "/nowhere/ca.pem"},
		{"unknown CA", &sessions.ClusterTLS{ServerName: "engine.test"}, []string{"h2"}, "certificate"},
		{"no HTTP/2", &sessions.ClusterTLS{CAFile: caFile, ServerName: "engine.test"}, []string{"http/1.1"}, ""},
		{"no ALPN", &sessions.ClusterTLS{CAFile: caFile, ServerName: "engine.test"}, []string{}, "not h2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "no HTTP/2" {
				tc.wanted = "protocol" // TLS itself finds that nothing is in common
			}
			ln := listenEngine(t, cert, tc.alpn)
			d := &EngineDialer{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if address != "engine.test:15002" {
					t.Errorf("dialled %s", address)
				}
				return (&net.Dialer{}).DialContext(ctx, network, ln.Addr().String())
			}}
			conn, err := d.connect(t.Context(), &sessions.Cluster{Name: "a", Address: "engine.test:15002", TLS: tc.tls})
			if err == nil {
				defer conn.Close()
			}
			if (err == nil) != (tc.wanted == "") || err != nil && !strings.Contains(err.Error(), tc.wanted) {
				t.Errorf("error %v, want %q", err, tc.wanted)
			}
		})
	}
}

// listenEngine accepts one connection and finishes its handshake.
func listenEngine(t *testing.T, cert tls.Certificate, alpn []string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if alpn != nil {
			_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: alpn}).Handshake()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln
}

// selfSigned makes a certificate and a file that holds it as an authority.
func selfSigned(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
