package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/sessions"
)

// pace is how often everything is rotated, and how many times: thirty times in some
// seconds, or every second for as long as SCONCE_ROTATE_FOR says.
func pace(t *testing.T) (every time.Duration, times int) {
	t.Helper()
	text := os.Getenv("SCONCE_ROTATE_FOR")
	if text == "" {
		return 100 * time.Millisecond, 30
	}
	whole, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return time.Second, int(whole / time.Second)
}

// Every certificate and key there is changes under load, certificates in two writes
// each so that halves of two pairs stand beside each other: the port's, the one that
// Sconce shows the engine, the engine's, and the key that signs tokens. Each
// connection is new, and no call fails.
func TestRotationUnderLoadFailsNoCall(t *testing.T) {
	every, rotations := pace(t)
	signed := newSigners(t)
	ca := proxytest.NewCerts(t, "localhost")
	dir := t.TempDir()
	port, shown := newRotated(t, ca, dir, "port", "localhost"), newRotated(t, ca, dir, "shown", "sconce")
	var engine atomic.Pointer[tls.Certificate]
	turn := func() {
		port.write(t)
		shown.write(t)
		pair := ca.Pair(t, "engine.test")
		engine.Store(&pair)
	}
	turn()
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(ca.CAFile)
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no authority")
	}
	g := gateway.Start(t, gateway.Config{
		Spark: proxytest.SparkConfig{
			TLS: &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return engine.Load(), nil },
			},
			// The engine ends its connections early, so that new ones are made.
			Options: []grpc.ServerOption{grpc.KeepaliveParams(keepalive.ServerParameters{
				MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: time.Minute,
			})},
		},
		Certificates: &proxy.CertificatesConfig{
			Cert: port.cert, Key: port.key, Every: 10 * time.Millisecond,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCA: ca.CAFile,
		},
		Verifier:   func(*proxytest.Keys) proxy.TokenVerifier { return signed.verifier },
		ClusterTLS: &sessions.ClusterTLS{CAFile: ca.CAFile, ServerName: "engine.test", CertFile: shown.cert, KeyFile: shown.key},
		Logger:     zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)), // what an internal error was
	})
	id := g.Session("alice", sessions.Active)
	signed.session = string(id)
	signed.rotate(t)
	plan := proxytest.ExecutePlan(spark1, "alice", "", false, bytes.Repeat([]byte("p"), 1000))

	ctx, stop := context.WithCancel(t.Context())
	var calls, connections atomic.Int64
	var load errgroup.Group
	for range 4 {
		conf := ca.Client.Clone()
		conf.Certificates = []tls.Certificate{ca.Pair(t, "alice")}
		load.Go(func() error {
			for ctx.Err() == nil {
				dial := tls.Dialer{Config: conf}
				c := proxytest.NewCaller(t, func(ctx context.Context) (net.Conn, error) {
					connections.Add(1)
					return dial.DialContext(ctx, "tcp", g.Addr())
				})
				for range 5 {
					token, done := signed.use()
					ctx := proxytest.With(t.Context(), "authorization", "Bearer "+token, "x-session-id", string(id))
					got, err := c.Collect(ctx, proxytest.SparkService+"ExecutePlan", plan)
					done()
					if err != nil || len(got) != 4 {
						return errors.Join(err, errors.New("a call failed"))
					}
					calls.Add(1)
				}
				_ = c.Conn.Close()
			}
			return nil
		})
	}
	for range rotations {
		turn()
		signed.rotate(t)
		time.Sleep(every)
	}
	stop()
	if err := load.Wait(); err != nil {
		t.Error(err)
	}
	if calls.Load() != 5*connections.Load() {
		t.Errorf("%d calls by %d connections: some were dialled twice", calls.Load(), connections.Load())
	}
	if _, accepted := g.Spark.Conns(); accepted < rotations/2 {
		t.Errorf("the engine saw %d connections only", accepted)
	}
	t.Logf("%d rotations, %d calls, %d connections", rotations, calls.Load(), connections.Load())
}

// rotated is a pair of files.
type rotated struct {
	ca        *proxytest.Certs
	cert, key string
	name      string
}

func newRotated(t *testing.T, ca *proxytest.Certs, dir, file, name string) *rotated {
	t.Helper()
	return &rotated{ca: ca, cert: filepath.Join(dir, file+".pem"), key: filepath.Join(dir, file+"-key.pem"), name: name}
}

func (r *rotated) write(t *testing.T) {
	t.Helper()
	cert, key := r.ca.Issue(t, r.name)
	if err := os.WriteFile(r.cert, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if err := os.WriteFile(r.key, key, 0o600); err != nil {
		t.Fatal(err)
	}
}

// signers are the keys that sign tokens, in two files: each in turn is written over
// with a new one, which signs from then on.
type signers struct {
	files    [2]string
	keys     *auth.KeySet
	verifier *auth.Verifier
	session  string

	turn   int
	tokens [2]string       // of each file's key
	in     [2]sync.RWMutex // held by who uses that token
	now    atomic.Int32    // which is the newest
}

func newSigners(t *testing.T) *signers {
	t.Helper()
	s := &signers{}
	for i := range s.files {
		s.files[i] = filepath.Join(t.TempDir(), "signing.pem")
		s.put(t, i)
	}
	var err error
	if s.keys, err = auth.NewKeySet(auth.KeySetConfig{Files: s.files[:], Interval: 10 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if s.verifier, err = auth.NewVerifier(auth.VerifierConfig{Keys: s.keys, Issuer: proxytest.TokenIssuer}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.keys.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-done })
	return s
}

// put writes a new key over one of the files.
func (s *signers) put(t *testing.T, file int) *auth.SigningKey {
	t.Helper()
	key, err := auth.GenerateSigningKey(auth.ES256)
	if err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(t.TempDir(), "fresh.pem")
	if err := errors.Join(key.WritePEM(fresh), os.Rename(fresh, s.files[file])); err != nil {
		t.Fatal(err)
	}
	return key
}

// rotate replaces the older key, when nobody uses its tokens any more: they are dead
// then. The new one signs when the port believes it.
func (s *signers) rotate(t *testing.T) {
	t.Helper()
	file := s.turn % 2
	s.turn++
	s.in[file].Lock()
	defer s.in[file].Unlock()
	old := s.tokens[file]
	key := s.put(t, file)
	issuer, err := auth.NewIssuer(auth.IssuerConfig{Key: key, Issuer: proxytest.TokenIssuer})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := issuer.Issue(auth.Grant{Kind: auth.KindSession, Subject: "alice", Org: "acme", Session: s.session})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err = s.verifier.Verify(token, auth.KindSession); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the new key is not believed: %v", err)
		}
	}
	if _, err := s.verifier.Verify(old, auth.KindSession); old != "" && !errors.Is(err, auth.ErrUnknownKey) {
		t.Errorf("a token of a key that is gone: %v", err)
	}
	s.tokens[file] = token
	s.now.Store(int32(file))
}

// use is the newest token, until done is called.
func (s *signers) use() (token string, done func()) {
	for {
		file := s.now.Load()
		if s.in[file].TryRLock() {
			return s.tokens[file], s.in[file].RUnlock
		}
	}
}

// Towards clients it is TLS 1.2 or newer.
func TestOldTLSIsRefused(t *testing.T) {
	certs := proxytest.NewCerts(t, "localhost")
	g := gateway.Start(t, gateway.Config{Certificates: &proxy.CertificatesConfig{Cert: certs.CertFile, Key: certs.KeyFile}})
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conf := certs.Client.Clone()
		conf.MinVersion, conf.MaxVersion = tls.VersionTLS10, version
		dialer := tls.Dialer{Config: conf}
		conn, err := dialer.DialContext(t.Context(), "tcp", g.Addr())
		if err == nil {
			conn.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}
