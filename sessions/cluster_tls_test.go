package sessions_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/grpc/credentials"
)

// pairFiles writes a certificate and its key, and returns their paths.
func pairFiles(t *testing.T, pair tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// An engine that asks for a certificate sees the one of its cluster.
func TestProbeShowsACertificate(t *testing.T) {
	server, caFile := certificate(t, "engine.test")
	client, clientCA := certificate(t, "sconce")
	stranger, _ := certificate(t, "sconce")
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(clientCA)
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no authority")
	}
	cluster := (&sparkServer{}).start(t, credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	}))
	for name, shown := range map[string]*tls.Certificate{"its own": &client, "none": nil, "another": &stranger} {
		own := *cluster
		own.TLS = &sessions.ClusterTLS{CAFile: caFile, ServerName: "engine.test"}
		if shown != nil {
			own.TLS.CertFile, own.TLS.KeyFile = pairFiles(t, *shown)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := (sessions.EngineClient{}).Probe(ctx, &own); (err == nil) != (name == "its own") {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// A pair that does not fit is refused at first; later it is one that is being
// written, and the last good one is shown until it is there.
func TestClusterCertificateFollowsItsFiles(t *testing.T) {
	first, _ := certificate(t, "first")
	second, _ := certificate(t, "second")
	cert, key := pairFiles(t, first)
	otherCert, otherKey := pairFiles(t, second)
	half := &sessions.Cluster{Name: "c", TLS: &sessions.ClusterTLS{CertFile: cert, KeyFile: otherKey}}
	if _, err := half.TLSConfig(); err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("halves of two pairs: %v", err)
	}
	c := &sessions.Cluster{Name: "c", TLS: &sessions.ClusterTLS{CertFile: cert, KeyFile: key}}
	shows := func() string {
		conf, err := c.TLSConfig()
		if err != nil {
			t.Fatal(err)
		}
		pair, err := conf.GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.Subject.CommonName
	}
	if got := shows(); got != "first" {
		t.Errorf("it shows %s", got)
	}
	move(t, otherCert, cert)
	if got := shows(); got != "first" {
		t.Errorf("between the writes it shows %s", got)
	}
	move(t, otherKey, key)
	if got := shows(); got != "second" {
		t.Errorf("afterwards it shows %s", got)
	}
}

// So it is with the authorities; and a list of clusters is none before they are all read.
func TestClusterAuthoritiesFollowTheirFile(t *testing.T) {
	synctest.Test(t, authoritiesFollowTheirFile)
}

func authoritiesFollowTheirFile(t *testing.T) {
	_, ca := certificate(t, "engine.test")
	_, next := certificate(t, "engine.test")
	list := []sessions.Cluster{{Name: "c", Address: "127.0.0.1:1", TLS: &sessions.ClusterTLS{CAFile: filepath.Join(t.TempDir(), "gone.pem")}}}
	if _, err := sessions.NewClusters(list); err == nil || !strings.Contains(err.Error(), "cluster c: read CA file") {
		t.Errorf("a file that is not there: %v", err)
	}
	first, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	list[0].TLS = &sessions.ClusterTLS{CAFile: ca}
	clusters, err := sessions.NewClusters(list)
	if err != nil {
		t.Fatal(err)
	}
	c := clusters["c"]
	trusts := func(what string, pem []byte) {
		t.Helper()
		conf, err := c.TLSConfig()
		want := x509.NewCertPool()
		want.AppendCertsFromPEM(pem)
		if err != nil || !conf.RootCAs.Equal(want) {
			t.Errorf("%s: it trusts others, %v", what, err)
		}
	}
	if err := os.WriteFile(ca, nil, 0o600); err != nil { // the first step of a copy
		t.Fatal(err)
	}
	trusts("emptied", first)
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	trusts("gone", first)
	time.Sleep(time.Minute - time.Second)
	trusts("gone for almost a minute", first)
	time.Sleep(time.Second)
	if _, err := c.TLSConfig(); err == nil || !strings.Contains(err.Error(), "cluster c: read CA file") {
		t.Errorf("gone for a minute: %v", err)
	}
	second, err := os.ReadFile(next)
	if err != nil {
		t.Fatal(err)
	}
	move(t, next, ca)
	trusts("replaced", second)
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
