package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/sessions"
)

func TestClusterList(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	certs := proxytest.NewCerts(t, "spark")
	got, err := clusterList([]configs.Cluster{
		{Name: "plain", Address: "a:1", Token: "t0ken"},
		{Name: "secure", Address: "b:2", TLS: configs.ClusterTLS{Enabled: true, CA: certs.CAFile, ServerName: "spark", Cert: certs.CertFile, Key: certs.KeyFile}, TokenFile: file},
	}, nil)
	want := sessions.Clusters{
		"plain":  {Name: "plain", Address: "a:1", Token: "t0ken"},
		"secure": {Name: "secure", Address: "b:2", Token: "s3cret", TLS: &sessions.ClusterTLS{CAFile: certs.CAFile, ServerName: "spark", CertFile: certs.CertFile, KeyFile: certs.KeyFile}},
	}
	if err != nil {
		t.Fatal(err)
	}
	read := got["secure"].TLS // and what is in the files
	got["secure"].TLS = &sessions.ClusterTLS{CAFile: read.CAFile, ServerName: read.ServerName, CertFile: read.CertFile, KeyFile: read.KeyFile}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if _, err := clusterList([]configs.Cluster{{Name: "x", Address: "a:1", TokenFile: "gone"}}, nil); err == nil {
		t.Error("a token file that is not there was taken")
	}
}

// Engines have the times that are written for them, whichever cluster's are the longest.
func TestTimesOfLaunches(t *testing.T) {
	for _, c := range []struct{ start, stop, wantWake, wantStop time.Duration }{
		{0, 0, 5 * time.Minute, 2 * time.Minute},
		{3 * time.Minute, 90 * time.Second, 5 * time.Minute, 2 * time.Minute},
		{10 * time.Minute, 5 * time.Minute, 12 * time.Minute, 5*time.Minute + 30*time.Second},
	} {
		list := []configs.Cluster{{Launch: configs.Launch{StartTimeout: c.start, StopTimeout: c.stop}}, {Launch: configs.Launch{StartTimeout: time.Second}}}
		if wake, stop := wakeTimeout(list), stopTimeout(list); wake != c.wantWake || stop != c.wantStop {
			t.Errorf("a start of %s and a stop of %s: a wake may take %s, a stop %s", c.start, c.stop, wake, stop)
		}
	}
}

func TestPublicEndpoint(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ endpoint, listen, cert, want string }{
		"written":             {"spark.example.com:443", ":8085", "", "spark.example.com:443"},
		"every address":       {"", ":8085", "", host + ":8085"},
		"every IPv6 one":      {"", "[::]:8085", "", host + ":8085"},
		"one address":         {"", "10.0.0.7:8085", "", "10.0.0.7:8085"},
		"a name to bind to":   {"", "localhost:9", "", "localhost:9"},
		"loopback":            {"", "127.0.0.1:9", "", "localhost:9"},
		"loopback, IPv6":      {"", "[::1]:9", "", "[::1]:9"},
		"another of loopback": {"", "127.0.0.2:9", "", "127.0.0.2:9"},
		"loopback with TLS":   {"", "127.0.0.1:9", "cert.pem", "127.0.0.1:9"},
		"loopback as written": {"127.0.0.1:8", "127.0.0.1:9", "", "127.0.0.1:8"},
	} {
		cfg := configs.Default()
		cfg.Endpoint, cfg.Listen, cfg.TLS.Cert = tc.endpoint, tc.listen, tc.cert
		if got, err := publicEndpoint(cfg); err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tc.want)
		}
	}
}
