package e2e

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// gateway is one `sconce serve`, the built binary, in front of the engines.
// Its folder holds its keys, its certificate and its log.
type gateway struct {
	name   string // of its log
	dir    string
	binary string
	config string
	ca     string // PEM of the private authority
	port   int
	admin  string   // URL of its page for operators
	front  string   // its configuration, but for the ports
	level  string   // of its log; "" = debug
	env    []string // beside our own
	bare   *bare    // where it runs in a root of its own, nil = on this machine as it is
	child  *child

	mu      sync.Mutex
	control map[string]string // control token by subject
}

// session is one session of the gateway and a token for it.
type session struct {
	gate  *gateway
	ID    string
	Owner string
	Token string
}

// issued are all tokens that the gateway gave out in this run: no log may hold one.
var issued struct {
	sync.Mutex
	tokens []string
}

func remember(token string) string {
	issued.Lock()
	defer issued.Unlock()
	issued.tokens = append(issued.tokens, token)
	return token
}

// redact takes tokens out of what the test prints.
func redact(text string) string {
	issued.Lock()
	defer issued.Unlock()
	for _, token := range issued.tokens {
		text = strings.ReplaceAll(text, token, "<token>")
	}
	return strings.ReplaceAll(text, engineSecret, "<engine token>")
}

func newGateway(dir, binary string) (*gateway, error) {
	g := &gateway{
		name: "sconce", dir: dir, binary: binary, control: map[string]string{},
		config: filepath.Join(dir, "sconce.yaml"), ca: filepath.Join(dir, "ca.pem"),
	}
	if err := makeCertificates(dir, g.ca); err != nil {
		return nil, err
	}
	_, err := g.run("", "key", "generate", "--out", filepath.Join(dir, "signing.pem"))
	return g, err
}

// front is what every replica of the gateway is configured with: the registry,
// and each engine by two ways: straight, and over its link. Redis may take its time: few
// tests are about that, and engines are busy beside it.
func front(redis string, engines ...*engine) string {
	return frontBy("timeout: 2s, dial_timeout: 2s", redis, engines...)
}

// frontBy is front with these settings of Redis.
func frontBy(settings, redis string, engines ...*engine) string {
	var text strings.Builder
	fmt.Fprintf(&text, "redis: {addresses: [%q], %s}\nclusters:\n", redis, settings)
	for _, e := range engines {
		fmt.Fprintf(&text, "  - {name: %s, address: %q, token: %q}\n", e.cluster, e.address, e.secret)
		fmt.Fprintf(&text, "  - {name: %s, address: %q, token: %q}\n", e.cutCluster(), e.link.addr(), e.secret)
	}
	return text.String()
}

// serve starts the gateway.
func (g *gateway) serve(front string) error {
	admin, err := storetest.FindPort()
	if err != nil {
		return err
	}
	if g.port == 0 {
		if g.port, err = storetest.FindPort(); err != nil {
			return err
		}
	}
	dir := g.bare.seen(g.dir)
	g.front, g.admin = front, "http://127.0.0.1:"+strconv.Itoa(admin)
	config := fmt.Sprintf(`listen: "127.0.0.1:%d"
endpoint: "127.0.0.1:%d"
admin: {listen: "127.0.0.1:%d"}
tls: {cert: %q, key: %q}
auth: {signing_key: %q}
drain_timeout: %v
log: {level: %s}
%s`, g.port, g.port, admin, filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"),
		filepath.Join(dir, "signing.pem"), drainTimeout, cmp.Or(g.level, "debug"), front)
	if err := os.WriteFile(g.config, []byte(config), 0o600); err != nil {
		return err
	}
	// All tests of a run share their owners and their address, and leave most sessions open.
	cmd := exec.Command(g.binary, "serve", "--config", g.config,
		"--set", "limits.sessions_per_owner=1000", "--set", "limits.control_streams=0", "--set", "limits.control_requests=0")
	cmd.Env = append(os.Environ(), g.env...)
	if err := g.bare.command(g, cmd); err != nil {
		return err
	}
	if g.child, err = startChild(g.dir, g.name, syscall.SIGTERM, cmd); err != nil {
		return err
	}
	return g.child.ready(30*time.Second, answers(g.admin+"/readyz"))
}

// replica starts one more process of the same gateway: same key, same registry,
// and these lines more in its configuration.
func (g *gateway) replica(t *testing.T, more ...string) *gateway {
	t.Helper()
	return g.replicaOn(t, 0, more...)
}

// replicaOn is replica on this port; 0 = a free one.
func (g *gateway) replicaOn(t *testing.T, port int, more ...string) *gateway {
	t.Helper()
	name := "replica-" + newUUID()[:8]
	r := &gateway{
		name: name, dir: g.dir, binary: g.binary, control: map[string]string{},
		config: filepath.Join(g.dir, name+".yaml"), ca: g.ca, level: g.level, port: port,
	}
	err := r.serve(g.front + strings.Join(more, ""))
	if r.child != nil {
		t.Cleanup(func() { r.child.end(20 * time.Second) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answers is a probe: the page is there and says 200.
func answers(url string) func() error {
	client := &http.Client{Timeout: 2 * time.Second}
	return func() error {
		reply, err := client.Get(url)
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		if reply.StatusCode != http.StatusOK {
			return fmt.Errorf("%s says %s", url, reply.Status)
		}
		return nil
	}
}

func (g *gateway) host() string { return "127.0.0.1:" + strconv.Itoa(g.port) }

// run is one client command of the binary, as this person; "" = nobody.
func (g *gateway) run(token string, args ...string) (string, error) {
	cmd := exec.Command(g.binary, args...)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), "SCONCE_TOKEN="+token, "SCONCE_ENDPOINT="+g.host())
	var out, noise strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &noise
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("sconce %s: %w: %s", strings.Join(args[:2], " "), err, redact(noise.String()))
	}
	return out.String(), nil
}

// as returns the control token of this person, signed by the command line.
func (g *gateway) as(subject string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if token, ok := g.control[subject]; ok {
		return token, nil
	}
	out, err := g.run("", "token", "control", "--config", g.config, "--subject", subject, "--org", "e2e", "--output", "json")
	if err != nil {
		return "", err
	}
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return "", fmt.Errorf("sconce token control: %w", err)
	}
	g.control[subject] = remember(answer.Token)
	return answer.Token, nil
}

// open makes a session of this person on this cluster, and a token for it, with
// the command line, as people do.
func (g *gateway) open(t *testing.T, owner, cluster string) *session {
	t.Helper()
	var made struct{ ID string }
	g.do(t, owner, &made, "session", "create", "--cluster", cluster, "--ca", g.ca, "--tls")
	s := &session{gate: g, ID: made.ID, Owner: owner}
	s.Token = s.issue(t)
	return s
}

// issue gets one more token for the session.
func (s *session) issue(t *testing.T) string {
	t.Helper()
	var got struct{ Token string }
	s.gate.do(t, s.Owner, &got, "token", "issue", s.ID, "--ca", s.gate.ca, "--tls")
	return remember(got.Token)
}

func (s *session) close(t *testing.T) {
	t.Helper()
	s.gate.do(t, s.Owner, nil, "session", "close", s.ID, "--ca", s.gate.ca, "--tls")
}

func (g *gateway) do(t *testing.T, owner string, answer any, args ...string) {
	t.Helper()
	if err := g.ask(owner, answer, args...); err != nil {
		t.Fatal(err)
	}
}

// ask is do for goroutines that are not the test's.
func (g *gateway) ask(owner string, answer any, args ...string) error {
	token, err := g.as(owner)
	if err != nil {
		return err
	}
	out, err := g.run(token, append(args, "--output", "json")...)
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), answer); err != nil {
		return fmt.Errorf("sconce %s printed no JSON: %w", args[0], err)
	}
	return nil
}

// url is the session's connection string. PySpark 4 speaks plaintext to
// localhost; to any other name a token means TLS in every client.
func (s *session) url(host string) string {
	return s.at(host + ":" + strconv.Itoa(s.gate.port))
}

func (s *session) at(address string) string {
	return fmt.Sprintf("sc://%s/;token=%s;x-session-id=%s", address, s.Token, s.ID)
}

// through is the same session by way of another replica.
func (s *session) through(g *gateway) *session {
	return &session{gate: g, ID: s.ID, Owner: s.Owner, Token: s.Token}
}

// caller speaks gRPC to the port over TLS, with the session's token.
func (s *session) caller(t *testing.T) *caller {
	t.Helper()
	return &caller{conn: s.gate.dial(t, true), secret: s.Token, session: s.ID}
}

func (g *gateway) dial(t *testing.T, secure bool) *grpc.ClientConn {
	t.Helper()
	way := insecure.NewCredentials()
	if secure {
		var err error
		if way, err = credentials.NewClientTLSFromFile(g.ca, ""); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := grpc.NewClient(g.host(), grpc.WithTransportCredentials(way))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// makeCertificates writes a private authority and a certificate for loopback.
func makeCertificates(dir, caFile string) error {
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Sconce e2e authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeCertificate(caFile, authority, authority, &authorityKey.PublicKey, authorityKey); err != nil {
		return err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "server.key"), "PRIVATE KEY", private); err != nil {
		return err
	}
	return writeCertificate(filepath.Join(dir, "server.pem"), server, authority, &key.PublicKey, authorityKey)
}

func writeCertificate(path string, template, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) error {
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return err
	}
	return writePEM(path, "CERTIFICATE", raw)
}

func writePEM(path, kind string, raw []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600)
}
