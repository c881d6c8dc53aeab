package sessions_test

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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/sessions"
)

// sparkServer answers on real gRPC what an engine would, and keeps what it was
// told.
type sparkServer struct {
	connect.UnimplementedSparkConnectServiceServer
	health *health.Server // nil = the service is not there, as on Apache Spark

	mu       sync.Mutex
	token    string // it must be sent; "" = none
	version  error  // the answer to SparkVersion
	slow     bool   // it comes when nobody waits any more
	asked    []string
	released []string
	prepared []string // user, Spark session, what
}

func (s *sparkServer) AnalyzePlan(ctx context.Context, r *connect.AnalyzePlanRequest) (*connect.AnalyzePlanResponse, error) {
	if s.slow {
		<-ctx.Done()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.GetSessionId())
	if r.GetSparkVersion() == nil {
		return nil, status.Error(codes.InvalidArgument, "not the version")
	}
	return &connect.AnalyzePlanResponse{SessionId: r.GetSessionId(), Result: &connect.AnalyzePlanResponse_SparkVersion_{
		SparkVersion: &connect.AnalyzePlanResponse_SparkVersion{Version: "4.1.0"},
	}}, s.version
}

func (s *sparkServer) ReleaseSession(_ context.Context, r *connect.ReleaseSessionRequest) (*connect.ReleaseSessionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = append(s.released, r.GetUserContext().GetUserId()+" "+r.GetSessionId())
	if strings.Contains(r.GetSessionId(), "dead") {
		return nil, status.Error(codes.Internal, "session is not running")
	}
	return &connect.ReleaseSessionResponse{SessionId: r.GetSessionId()}, nil
}

// guard is Apache Spark's check of its pre-shared token, before any method.
func (s *sparkServer) guard(ctx context.Context, r any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if s.token != "" && !slices.Equal(md.Get("authorization"), []string{"Bearer " + s.token}) {
		return nil, status.Error(codes.Unauthenticated, "invalid token")
	}
	return handle(ctx, r)
}

func (s *sparkServer) guardStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	_, err := s.guard(stream.Context(), nil, nil, func(context.Context, any) (any, error) { return nil, handle(srv, stream) })
	return err
}

// start serves on loopback until the test ends.
func (s *sparkServer) start(t *testing.T, creds credentials.TransportCredentials) *sessions.Cluster {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(creds), grpc.UnaryInterceptor(s.guard), grpc.StreamInterceptor(s.guardStream))
	connect.RegisterSparkConnectServiceServer(server, s)
	if s.health != nil {
		healthpb.RegisterHealthServer(server, s.health)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() { server.Stop(); <-done })
	return &sessions.Cluster{Name: "c", Address: ln.Addr().String(), Token: s.token}
}

func TestProbe(t *testing.T) {
	down := health.NewServer()
	down.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	for _, c := range []struct {
		name    string
		server  *sparkServer
		change  func(*sessions.Cluster)
		ok      bool
		refused bool
		asks    int // SparkVersion
	}{
		{name: "serves health, like Sail", server: &sparkServer{health: health.NewServer()}, ok: true},
		{name: "health says no", server: &sparkServer{health: down}},
		{name: "no health, like Spark", server: &sparkServer{}, ok: true, asks: 1},
		{name: "no health, and a broken engine", server: &sparkServer{version: status.Error(codes.Internal, "broken")}, asks: 1},
		{name: "its token", server: &sparkServer{token: "secret"}, ok: true, asks: 1},
		{name: "another token", server: &sparkServer{token: "secret"}, change: func(c *sessions.Cluster) { c.Token = "guess" }, refused: true},
		{name: "no token", server: &sparkServer{token: "secret"}, change: func(c *sessions.Cluster) { c.Token = "" }, refused: true},
		{name: "TLS to a plaintext server", server: &sparkServer{}, change: func(c *sessions.Cluster) { c.TLS = &sessions.ClusterTLS{} }},
		{name: "a CA file that is not there", server: &sparkServer{}, change: func(c *sessions.Cluster) { c.TLS = &sessions.ClusterTLS{CAFile: "/none"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := c.server.start(t, insecure.NewCredentials())
			if c.change != nil {
				c.change(cluster)
			}
			err := sessions.EngineClient{}.Probe(t.Context(), cluster)
			if (err == nil) != c.ok || errors.Is(err, sessions.ErrRefused) != c.refused {
				t.Errorf("error %v", err)
			}
			if len(c.server.asked) != c.asks {
				t.Errorf("asked for the version %d times, want %d", len(c.server.asked), c.asks)
			}
			if c.ok && c.asks == 1 && !slices.Equal(c.server.released, []string{"sconce-probe " + c.server.asked[0]}) {
				t.Errorf("asked in session %v, released %v", c.server.asked, c.server.released)
			}
		})
	}
}

func TestProbesUseFreshSessions(t *testing.T) {
	server := &sparkServer{}
	cluster := server.start(t, insecure.NewCredentials())
	for range 2 {
		if err := (sessions.EngineClient{}).Probe(t.Context(), cluster); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := sessions.ParseSparkID(server.asked[0]); !ok || server.asked[0] == server.asked[1] {
		t.Errorf("probed in sessions %v", server.asked)
	}
}

// A question that is not answered in time leaves nothing behind either: the engine has
// made a session for it, or is about to.
func TestLateVersionIsReleased(t *testing.T) {
	server := &sparkServer{slow: true}
	cluster := server.start(t, insecure.NewCredentials())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := (sessions.EngineClient{}).Version(ctx, cluster); err == nil || got != "" {
		t.Errorf("version %q, %v", got, err)
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if len(server.released) != 1 || !strings.HasPrefix(server.released[0], "sconce-probe ") {
		t.Errorf("released %v", server.released)
	}
}

// The version is asked for whether the engine serves health or not, by the cluster's
// token, and nothing of the question stays behind.
func TestVersion(t *testing.T) {
	server := &sparkServer{token: "secret", health: health.NewServer()}
	cluster := server.start(t, insecure.NewCredentials())
	got, err := sessions.EngineClient{}.Version(t.Context(), cluster)
	if err != nil || got != "4.1.0" || !slices.Equal(server.released, []string{"sconce-probe " + server.asked[0]}) {
		t.Errorf("version %q, %v; asked in session %v, released %v", got, err, server.asked, server.released)
	}
	cluster.Token = "guess"
	if got, err := (sessions.EngineClient{}).Version(t.Context(), cluster); got != "" || !errors.Is(err, sessions.ErrRefused) {
		t.Errorf("version %q, %v by a wrong token", got, err)
	}
}

func TestProbeOfNobody(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := (sessions.EngineClient{}).Probe(ctx, &sessions.Cluster{Name: "c", Address: address}); err == nil || errors.Is(err, sessions.ErrRefused) {
		t.Errorf("error %v", err)
	}
}

func TestProbeOverTLS(t *testing.T) {
	cert, caFile := certificate(t, "engine.test")
	server := &sparkServer{token: "secret"}
	cluster := server.start(t, credentials.NewServerTLSFromCert(&cert))
	for _, c := range []struct {
		name string
		tls  *sessions.ClusterTLS
		ok   bool
	}{
		{"its CA and name", &sessions.ClusterTLS{CAFile: caFile, ServerName: "engine.test"}, true},
		{"another name", &sessions.ClusterTLS{CAFile: caFile, ServerName: "other.test"}, false},
		{"the address's name", &sessions.ClusterTLS{CAFile: caFile}, false},
		{"the system's CAs", &sessions.ClusterTLS{ServerName: "engine.test"}, false},
		{"plaintext", nil, false},
	} {
		own := *cluster
		own.TLS = c.tls
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := (sessions.EngineClient{}).Probe(ctx, &own); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		cancel()
	}
}

func TestRelease(t *testing.T) {
	server := &sparkServer{token: "secret"}
	cluster := server.start(t, insecure.NewCredentials())
	err := sessions.EngineClient{}.Release(t.Context(), cluster, "ann", []sessions.SparkID{"one", "dead", "two"})
	if err == nil || !strings.Contains(err.Error(), "dead") || strings.Contains(err.Error(), "two") {
		t.Errorf("error %v", err)
	}
	if want := []string{"ann one", "ann dead", "ann two"}; !slices.Equal(server.released, want) {
		t.Errorf("released %v, want %v", server.released, want)
	}
}

// certificate makes a self-signed certificate of that name, and the file to trust it by.
func certificate(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
