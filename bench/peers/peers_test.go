package peers_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/bench/load"
	"github.com/sconce-dev/sconce/bench/peers"
)

// TestEveryPeerRelays starts each installed peer, in plaintext and with TLS,
// and sends unary calls, a download and an upload through it.
func TestEveryPeerRelays(t *testing.T) {
	ctx := context.Background()
	tools, err := peers.Build(ctx, "..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	back, err := peers.StartBackend(ctx, tools)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.Stop)
	cert, err := peers.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	envoy := os.Getenv("ENVOY")
	if envoy == "" {
		envoy = "envoy"
	}
	for _, p := range peers.All(peers.Programs{Tools: tools, Envoy: envoy}) {
		version, err := p.Version()
		if errors.Is(err, peers.ErrNotInstalled) {
			t.Logf("%s: %v", p.Name, err)
			continue
		}
		if err != nil || version == "" {
			t.Errorf("%s: version %q, %v", p.Name, version, err)
		}
		for _, front := range []*peers.Certificate{nil, cert} {
			name := p.Name + "/plain"
			if front != nil {
				name = p.Name + "/tls"
			}
			t.Run(name, func(t *testing.T) { relays(t, p, back.Addr, front) })
		}
	}
}

func relays(t *testing.T, p peers.Peer, back string, cert *peers.Certificate) {
	t.Helper()
	proc, err := peers.StartPeer(context.Background(), p, t.TempDir(), back, cert)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Stop()
	target := load.Target{
		Addr: proc.Addr, Token: strings.Repeat("t", 900), Session: "s",
		Spark: "8a2f1a52-0f2f-4f4c-9d5e-0123456789ab", Timeout: 10 * time.Second,
	}
	if cert != nil {
		target.TLS = cert.Client()
	}
	pool, err := load.Dial(t.Context(), target, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	c := pool.Conns[0]
	if _, err := c.Unary(8, 100); err != nil {
		t.Errorf("unary: %v", err)
	}
	if _, err := c.Download(load.Ask{Size: 64 << 10, Messages: 160}); err != nil {
		t.Errorf("download: %v", err)
	}
	if err := c.Upload(32<<10, 160); err != nil {
		t.Errorf("upload: %v", err)
	}
	if t.Failed() {
		t.Logf("%s said: %s", p.Name, proc.Said())
	}
}

func TestStartSaysWhyAProgramEnded(t *testing.T) {
	tools, err := peers.Build(context.Background(), "..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bad := peers.All(peers.Programs{Tools: tools})[0]
	_, err = peers.StartPeer(context.Background(), bad, t.TempDir(), "127.0.0.1:1",
		&peers.Certificate{Cert: "/nowhere", Key: "/nowhere"})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}
