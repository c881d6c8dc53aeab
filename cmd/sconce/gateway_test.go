package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/alicebob/miniredis/v2"

	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// served is `sconce serve` inside the test.
type served struct {
	t       *testing.T
	addr    string
	signals chan os.Signal
	hangups chan os.Signal
	exit    chan int
	log     *lockedBuffer
	dir     string
	file    string
	key     string // the file of its signing key
	redis   string // the address of its Redis
	spark   *proxytest.Spark
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const serveYAML = `
admin: {listen: ""}
tls: {require_tls: false}
auth: {signing_key: %KEY%%AUTH%}
drain_timeout: 20s
limits: {control_requests: 0} # tests ask again and again
redis: {addresses: [%REDIS%], timeout: 2s, dial_timeout: 2s}
clusters:
  - name: fake
    address: %SPARK%
`

func startServe(t *testing.T, more ...string) *served {
	t.Helper()
	return startServeWith(t, "", more...)
}

// startServeWith is startServe with more settings in auth, as ", key: value".
func startServeWith(t *testing.T, auth string, more ...string) *served {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "signing.pem")
	if _, err := makeKey("ES256", key); err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, dir: dir, key: key, redis: miniredis.RunT(t).Addr(), spark: newSpark(t)}
	s.start(auth, more...)
	return s
}

// beside is a second replica, which reaches the same Redis by another way.
func (s *served) beside(redis string) *served {
	s.t.Helper()
	other := &served{t: s.t, dir: s.t.TempDir(), key: s.key, redis: redis, spark: s.spark}
	other.start("")
	return other
}

func (s *served) start(auth string, more ...string) {
	s.t.Helper()
	s.signals, s.hangups, s.exit, s.log = make(chan os.Signal, 2), make(chan os.Signal, 1), make(chan int, 1), &lockedBuffer{}
	s.addr = storetest.FreeAddress(s.t)
	s.file = filepath.Join(s.dir, "sconce.yaml")
	yaml := strings.NewReplacer("%KEY%", s.key, "%AUTH%", auth, "%REDIS%", s.redis, "%SPARK%", s.spark.Addr()).Replace(serveYAML)
	if err := os.WriteFile(s.file, []byte(yaml+"listen: "+s.addr+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: s.log, now: time.Now, signals: s.signals}
	a.hangups = func() (<-chan os.Signal, func()) { return s.hangups, func() {} }
	args := append([]string{"serve", "--config", s.file}, more...)
	go func() { s.exit <- a.run(context.Background(), args) }()
	s.t.Cleanup(s.end)
	s.await("serving")
}

// await waits until the log has a word.
func (s *served) await(word string) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Log(s.log)
		}
	}()
	await(s.t, func() bool { return strings.Contains(s.log.String(), word) }, word)
}

func (s *served) end() {
	s.signals <- syscall.SIGTERM
	s.signals <- syscall.SIGTERM
	<-s.exit
}

// command runs another sconce command and returns what it prints.
func (s *served) command(args ...string) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	token := filepath.Join(s.dir, "control.token")
	a := &app{
		stdin: strings.NewReader(""), stdout: &out, stderr: &errs, now: time.Now, signals: make(chan os.Signal),
		environ: []string{"SCONCE_ENDPOINT=" + s.addr, "SCONCE_STATE=" + s.dir},
	}
	if code := a.run(context.Background(), args); code != 0 {
		s.t.Fatalf("sconce %q: exit %d: %s", args, code, errs.String())
	}
	if args[1] == "control" {
		if err := os.WriteFile(token, out.Bytes(), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return out.String()
}

// credentials are the header fields of the owner of a new session, as pairs.
func (s *served) credentials() []string {
	s.t.Helper()
	s.command("token", "control", "--config", s.file, "--subject", "ada", "--org", "physics")
	s.command("session", "create", "--name", "lake")
	var token struct {
		Token            string `json:"token"`
		ConnectionString string `json:"connection_string"`
	}
	if err := json.Unmarshal([]byte(s.command("token", "issue", "lake", "--output", "json")), &token); err != nil {
		s.t.Fatal(err)
	}
	_, session, _ := strings.Cut(token.ConnectionString, ";x-session-id=")
	return []string{"authorization", "Bearer " + token.Token, "x-session-id", session}
}

// open starts an ExecutePlan through the port that runs until gate is closed.
func (s *served) open(gate <-chan struct{}) *proxytest.CallerStream {
	s.t.Helper()
	s.spark.Script("ExecutePlan", proxytest.Drip(10, gate))
	caller := proxytest.NewCaller(s.t, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
	})
	stream, err := caller.Stream(proxytest.With(s.t.Context(), s.credentials()...), proxytest.SparkService+"ExecutePlan")
	if err != nil {
		s.t.Fatal(err)
	}
	plan := proxytest.ExecutePlan("6f9619ff-8b86-4d01-b42d-00c04fc964ff", "mallory", "00112233-4455-4677-8899-aabbccddeeff", true, nil)
	if err := stream.Send(plan); err != nil {
		s.t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		s.t.Fatal(err)
	}
	return stream
}

func TestServeDrains(t *testing.T) {
	gate := make(chan struct{})
	s := startServe(t)
	stream := s.open(gate)
	gate <- struct{}{}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGTERM
	s.await("draining")
	gate <- struct{}{} // the stream goes on
	if _, err := stream.Recv(); err != nil {
		t.Errorf("while draining the stream read %v", err)
	}
	select {
	case code := <-s.exit:
		t.Fatalf("it ended with a stream open: exit %d", code)
	default:
	}
	close(gate)
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	code := <-s.exit
	if s.exit <- code; code != exitDone {
		t.Errorf("exit %d, want %d", code, exitDone)
	}
}

// Streams that never end by themselves, which anybody may open, are told of the drain
// and hold it up for no longer than that.
func TestServeDrainsThoughSomebodyWatches(t *testing.T) {
	s := startServe(t)
	caller := proxytest.NewCaller(t, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
	})
	watch, err := healthpb.NewHealthClient(caller.Conn).Watch(t.Context(), &healthpb.HealthCheckRequest{}, grpc.ForceCodecV2(encoding.GetCodecV2("proto")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("before: %v, %v", got, err)
	}
	half, err := caller.Stream(proxytest.With(t.Context(), "authorization", "Bearer x"), "/sconce.v1.SessionService/CreateSession")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	s.signals <- syscall.SIGTERM
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("while draining: %v, %v", got, err)
	}
	_, watched := watch.Recv()
	_, halved := half.Recv()
	for _, err := range []error{watched, halved} {
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "shutting down") {
			t.Errorf("it ended with %v", err)
		}
	}
	code := <-s.exit
	if s.exit <- code; code != exitDone {
		t.Errorf("exit %d, want %d", code, exitDone)
	}
	if took := time.Since(begun); took < ownLast || took > ownLast+8*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A session that is being created when a drain begins is created, however it was asked for.
func TestServeDrainsCreates(t *testing.T) {
	s := startServe(t)
	token := s.command("token", "control", "--config", s.file, "--subject", "ada", "--org", "physics")
	asked, gate := make(chan struct{}, 10), make(chan struct{})
	held := func(x *proxytest.Exchange) error {
		x.Drain()
		select {
		case asked <- struct{}{}:
		default:
		}
		<-gate
		return status.Error(codes.Unimplemented, "no such service") // as Spark says, which is asked for its version then
	}
	s.spark.Script("Check", held)
	answers := make(chan string, 2)
	post := func(client *http.Client) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/v1/sessions", strings.NewReader("{}"))
		if err != nil {
			answers <- err.Error()
			return
		}
		r.Header.Set("authorization", "Bearer "+strings.TrimSpace(token))
		r.Header.Set("content-type", "application/json")
		reply, err := client.Do(r)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer reply.Body.Close()
		text, _ := io.ReadAll(reply.Body)
		answers <- reply.Status + " " + string(text)
	}
	two := &http.Transport{Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	for _, client := range []*http.Client{{Transport: &http.Transport{}}, {Transport: two}} {
		go post(client)
		<-asked
	}
	s.signals <- syscall.SIGTERM
	time.Sleep(ownLast + time.Second) // what has no end of its own is cut by now
	close(gate)
	for range 2 {
		if got := <-answers; !strings.HasPrefix(got, "200 OK") || !strings.Contains(got, `"ACTIVE"`) {
			t.Errorf("it was answered %s", got)
		}
	}
	code := <-s.exit
	if s.exit <- code; code != exitDone {
		t.Errorf("exit %d, want %d", code, exitDone)
	}
}

func TestServeEndsAtOnceOnASecondSignal(t *testing.T) {
	gate := make(chan struct{})
	s := startServe(t)
	stream := s.open(gate)
	gate <- struct{}{}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGTERM
	s.await("draining")
	s.signals <- syscall.SIGTERM
	code := <-s.exit
	if s.exit <- code; code != exitCut {
		t.Errorf("exit %d, want %d", code, exitCut)
	}
	if _, err := stream.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the stream that was cut ended with %v", err)
	}
}

func TestServeCutsWhatDoesNotEndInTime(t *testing.T) {
	gate := make(chan struct{})
	s := startServe(t, "--set", "drain_timeout=50ms")
	stream := s.open(gate)
	gate <- struct{}{}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGTERM
	code := <-s.exit
	if s.exit <- code; code != exitDone {
		t.Errorf("exit %d, want %d", code, exitDone)
	}
	if _, err := stream.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the stream that was cut ended with %v", err)
	}
	s.await("drain_timeout passed")
}

func TestServeCutsTheStreamsOfAClosedSession(t *testing.T) {
	gate := make(chan struct{})
	s := startServe(t)
	stream := s.open(gate)
	gate <- struct{}{}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	probes := s.spark.Calls("ReleaseSession") // of their own sessions
	stalls, start := storetest.MeterStalls(t), time.Now()
	s.command("session", "close", "lake")
	_, err := stream.Recv()
	took, stall := time.Since(start), stalls.Longest()
	if st := status.Convert(err); st.Code() == codes.OK || !strings.Contains(st.Message(), "closed") {
		t.Errorf("the stream ended with %v", err)
	}
	released := s.spark.Calls("ReleaseSession") - probes
	if took > 2*time.Second+stall {
		t.Errorf("it took %s, of which the machine stood still for %s", took, stall)
	} else if released != 0 {
		t.Error("the engine was told before other replicas can have cut their streams")
	}
	s.signals <- syscall.SIGTERM // before the engine's turn: it comes at the end
	code := <-s.exit
	if s.exit <- code; code != exitDone {
		t.Errorf("exit %d, want %d", code, exitDone)
	}
	if n := s.spark.Calls("ReleaseSession") - probes; n != 1 {
		t.Errorf("the engine was told %d times", n)
	}
}

func TestServeAnswersHealthChecks(t *testing.T) {
	s := startServe(t)
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("got %s, %v", got.GetStatus(), err)
	}
}

func TestLimitsAreTheRelaysOneForOne(t *testing.T) {
	if got, want := relayLimits(configs.Default()), relay.DefaultLimits(); got != want {
		t.Errorf("configs: %+v\nrelay:   %+v", got, want)
	}
	without := configs.Default()
	without.Limits.Tarpit = 0
	if got := relayLimits(without); got.Tarpit >= 0 {
		t.Errorf("without a tarpit there is one of %v", got.Tarpit)
	}
}
