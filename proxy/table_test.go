package proxy_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/sessions"
)

// The bad inputs, as one table, through the real port,
// relay, router and registry, in front of an engine that counts its calls.
// Where another status would have been as near, the row says why it is this one.

const (
	analyze = proxytest.SparkService + "AnalyzePlan"
	spark1  = "11111111-2222-4333-8444-000000000001"
	spark2  = "11111111-2222-4333-8444-000000000002"
	sparkB  = "11111111-2222-4333-8444-00000000000b" // bound to Bob's session
)

// scene is one gateway with the sessions that the rows are about.
type scene struct {
	*gateway.Gateway
	t                                   *testing.T
	alice, bob, closed, failed, pending sessions.ID
	c                                   *proxytest.Peer // a client of this row's own
}

func newScene(t *testing.T, cfg gateway.Config) *scene {
	t.Helper()
	s := &scene{Gateway: gateway.Start(t, cfg), t: t}
	s.alice, s.bob = s.Session("alice", sessions.Active), s.Session("bob", sessions.Active)
	s.closed, s.failed = s.Session("alice", sessions.Closed), s.Session("alice", sessions.Failed)
	s.pending = s.Session("alice", sessions.Pending)
	s.c = s.Client(proxytest.PeerConfig{})
	got := s.send(proxytest.Call(analyze, s.Credentials(s.bob, "bob")...), proxytest.Request(sparkB, "bob"))
	if got.Trailer("grpc-status") != "0" {
		t.Fatalf("bob's own call: %v", got.Blocks)
	}
	return s
}

// send makes a call of one message.
func (s *scene) send(fields []hpack.HeaderField, message []byte) proxytest.Stream {
	return s.body(fields, proxytest.Message(message))
}

// body makes a call with this body, framing and all.
func (s *scene) body(fields []hpack.HeaderField, body []byte) proxytest.Stream {
	s.t.Helper()
	id := s.c.Open(fields, false)
	s.c.Data(id, true, body)
	return s.c.Response(id)
}

// good are the header fields of a right call by Alice.
func (s *scene) good(extra ...string) []hpack.HeaderField {
	return proxytest.Call(analyze, append(s.Credentials(s.alice, "alice"), extra...)...)
}

// token calls as Alice with this token.
func (s *scene) token(token string) proxytest.Stream {
	return s.send(proxytest.Call(analyze, "authorization", "Bearer "+token, "x-session-id", string(s.alice)), aliceRequest)
}

// session calls with a good token for that session of Alice.
func (s *scene) session(id sessions.ID) proxytest.Stream {
	return s.send(proxytest.Call(analyze, s.Credentials(id, "alice")...), aliceRequest)
}

// path calls that path as Alice.
func (s *scene) path(path string) proxytest.Stream {
	return s.send(proxytest.Call(path, s.Credentials(s.alice, "alice")...), aliceRequest)
}

// message sends that message as Alice.
func (s *scene) message(message ...[]byte) proxytest.Stream {
	return s.send(s.good(), proxytest.Join(message...))
}

// framed sends that body as Alice.
func (s *scene) framed(body ...[]byte) proxytest.Stream {
	return s.body(s.good(), proxytest.Join(body...))
}

// claims calls with a token of Alice's claims, changed.
func (s *scene) claims(pairs ...any) proxytest.Stream {
	return s.token(s.Keys.Sign(s.Keys.Header(), proxytest.Change(s.Keys.Claims(string(s.alice), "alice"), pairs...)))
}

// header calls with a token of another JOSE header.
func (s *scene) header(pairs ...any) proxytest.Stream {
	return s.token(s.Keys.Sign(proxytest.Change(s.Keys.Header(), pairs...), s.Keys.Claims(string(s.alice), "alice")))
}

var (
	aliceRequest = proxytest.Request(spark1, "alice")
	sparkField   = proxytest.Text(1, spark1)
	userField    = proxytest.Bytes(2, proxytest.Text(1, "mallory"))
)

// want is what becomes of a bad input.
type want struct {
	code   codes.Code
	reason string // of ErrorInfo; "" = no details
	http   string // :status; "" = 200
	reset  bool   // RST_STREAM PROTOCOL_ERROR in place of all that
	calls  int    // that the engine may see
	// ends: the connection ends with a GOAWAY of this code, and no answer.
	ends http2.ErrCode
}

func refused(code codes.Code, reason string) want { return want{code: code, reason: reason} }

// row is one bad input. Its number groups rows of one kind; several may share one.
type row struct {
	number int
	name   string
	send   func(s *scene) proxytest.Stream
	want   want
}

var (
	tokenInvalid = refused(codes.Unauthenticated, "TOKEN_INVALID")
	unknown      = refused(codes.Unimplemented, "METHOD_UNKNOWN")
	malformed    = refused(codes.InvalidArgument, "MESSAGE_MALFORMED")
	badSpark     = refused(codes.InvalidArgument, "SPARK_SESSION_INVALID")
	badFraming   = refused(codes.Internal, "FRAMING_MALFORMED")
	badHeader    = want{code: codes.Internal, reason: "HEADER_MALFORMED", http: "400"}
	onlyReset    = want{reset: true}
)

func TestTableOfBadInputs(t *testing.T) {
	core, logged := observer.New(zapcore.DebugLevel)
	s := newScene(t, gateway.Config{
		MaxMessage: 128 << 20, HoldTimeout: 3 * time.Second, UnaryHold: 3 * time.Second, Logger: zap.New(core),
	})
	rows := slices.Concat(tokenRows(), pathRows(), headerRows(), messageRows(), sessionRows())
	covered := map[int]bool{}
	for _, r := range rows {
		covered[r.number] = true
		t.Run(fmt.Sprintf("%02d %s", r.number, r.name), func(t *testing.T) {
			s := &scene{
				Gateway: s.Gateway, t: t, alice: s.alice, bob: s.bob, closed: s.closed, failed: s.failed, pending: s.pending,
				c: s.Client(proxytest.PeerConfig{}),
			}
			before := s.Spark.Calls("")
			got := r.send(s)
			if r.want.ends != 0 {
				if code := s.c.WaitClosed(); code != int(r.want.ends) {
					t.Errorf("the connection ended with code %d, want %v", code, r.want.ends)
				}
				s.c = s.Client(proxytest.PeerConfig{})
			} else {
				r.want.check(t, got)
			}
			if n := s.Spark.Calls("") - before; n != r.want.calls {
				t.Errorf("the engine saw %d calls, want %d", n, r.want.calls)
			}
			// Errors stay on their stream: the connection serves on, or else the next one.
			if after := s.send(s.good(), aliceRequest); after.Trailer("grpc-status") != "0" {
				t.Errorf("a good call on the same connection read %v, reset=%v", after.Blocks, after.Reset)
			}
		})
	}
	noToken(t, s.Spark.Recorded(""), logged.All())
	for n := 1; n <= 42; n++ {
		if !covered[n] && !ownTests[n] {
			t.Errorf("row %d of the table has no test", n)
		}
	}
}

// noToken looks for a token of a client in what the engine saw and in the log.
func noToken(t *testing.T, calls []*proxytest.Record, logged []observer.LoggedEntry) {
	t.Helper()
	const jwt = "eyJ" // how every token begins
	for _, c := range calls {
		if text := fmt.Sprint(c.Metadata); strings.Contains(text, jwt) {
			t.Errorf("the engine saw a token: %s", text)
		}
	}
	if len(logged) == 0 {
		t.Error("nothing was logged: is the log looked at?")
	}
	for _, l := range logged {
		if text := fmt.Sprint(l.Message, l.ContextMap()); strings.Contains(text, jwt) || strings.Contains(text, gateway.Token) {
			t.Errorf("a token was logged: %s", text)
		}
	}
}

// ownTests are the rows whose connection does not survive, or which need a
// gateway of their own: the tests below.
var ownTests = map[int]bool{22: true, 23: true, 26: true, 27: true, 35: true, 39: true, 40: true, 41: true}

// check holds a response against what is wanted.
func (w want) check(t *testing.T, got proxytest.Stream) {
	t.Helper()
	if w.reset {
		if !got.Reset || got.Code != http2.ErrCodeProtocol || len(got.Blocks) > 0 {
			t.Errorf("the client read %v, reset=%v %v; want a reset with PROTOCOL_ERROR", got.Blocks, got.Reset, got.Code)
		}
		return
	}
	status := w.http
	if status == "" {
		status = "200"
	}
	if got.Header(":status") != status || got.Trailer("grpc-status") != strconv.Itoa(int(w.code)) {
		t.Errorf("the client read %v, reset=%v; want %v %s", got.Blocks, got.Reset, w.code, w.reason)
	}
	if w.code == codes.OK {
		return
	}
	if reason := reasonIn(t, got); reason != w.reason {
		t.Errorf("reason %q, want %q", reason, w.reason)
	}
	size := 0
	for _, f := range got.Blocks[0] {
		size += int(f.Size())
	}
	if size > 4<<10 {
		t.Errorf("a refusal of %d bytes", size)
	}
	for _, f := range got.Blocks[0] {
		if strings.Contains(f.Value, "eyJ") {
			t.Errorf("a token comes back in %s", f.Name)
		}
	}
}

// reasonIn returns the reason of the ErrorInfo, and checks what every refusal promises.
func reasonIn(t *testing.T, got proxytest.Stream) string {
	t.Helper()
	text := got.Trailer("grpc-status-details-bin")
	if text == "" {
		return ""
	}
	bin, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		t.Fatalf("details: %v", err)
	}
	var st spb.Status
	if err := proto.Unmarshal(bin, &st); err != nil {
		t.Fatalf("details: %v", err)
	}
	if strconv.Itoa(int(st.GetCode())) != got.Trailer("grpc-status") {
		t.Errorf("details of code %d beside grpc-status %s", st.GetCode(), got.Trailer("grpc-status"))
	}
	for _, d := range st.GetDetails() {
		var info errdetails.ErrorInfo
		if d.MessageIs(&info) && d.UnmarshalTo(&info) == nil {
			if info.GetMetadata()["classes"] != `["org.apache.spark.SparkException"]` || info.GetDomain() != "sconce" {
				t.Errorf("error info %v", &info)
			}
			return info.GetReason()
		}
	}
	return ""
}
