package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"

	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

// The rows of the table of bad inputs that need a test of their own.

// Row 10: a stranger reads the same bytes whether the session exists or not.
func TestStrangerCannotTellWhetherASessionExists(t *testing.T) {
	s := newScene(t, gateway.Config{})
	token := "Bearer " + s.Keys.Session(string(s.alice), "alice")
	var first []hpack.HeaderField
	for _, id := range []sessions.ID{s.bob, s.closed, "s-00000000000000000000000000", "x"} {
		got := s.send(proxytest.Call(analyze, "authorization", token, "x-session-id", string(id)), aliceRequest)
		if first == nil {
			first = got.Blocks[0]
		}
		if !slices.Equal(got.Blocks[0], first) {
			t.Errorf("session %q: %v, want %v", id, got.Blocks[0], first)
		}
	}
}

// Row 38: a held call goes on once the session is active.
func TestHeldUntilActive(t *testing.T) {
	s := newScene(t, gateway.Config{})
	before := s.Spark.Calls("")
	id := s.c.Open(proxytest.Call(analyze, s.Credentials(s.pending, "alice")...), false)
	s.c.Send(id, proxytest.Message(aliceRequest), true)
	s.c.Barrier()
	if n := s.Spark.Calls("") - before; n != 0 {
		t.Errorf("the engine saw %d calls for a session that is not active", n)
	}
	s.Move(s.pending, sessions.Active)
	if got := s.c.Response(id); got.Trailer("grpc-status") != "0" {
		t.Errorf("the held call read %v", got.Blocks)
	}
}

// Rows 22, 23: what is ours, or a lie, does not reach the engine.
func TestFieldsThatAreNotForwarded(t *testing.T) {
	engine := proxytest.TCP(t)
	dialed := make(chan net.Conn, 1)
	s := &scene{t: t, Gateway: gateway.Start(t, gateway.Config{Dial: dialInto(t, engine, dialed)})}
	s.alice = s.Session("alice", sessions.Active)
	s.c = s.Client(proxytest.PeerConfig{})
	body := proxytest.Message(aliceRequest)
	fields := s.good("host", "other.test", "x-forwarded-for", "1.2.3.4", "x-sconce-user", "root", "grpc-previous-rpc-attempts", "3",
		"content-length", strconv.Itoa(len(body)), "x-kept", "1", "grpc-timeout", "7S")
	id := s.c.Open(fields, false)
	s.c.Data(id, true, body)
	b := proxytest.Server(t, <-dialed, proxytest.PeerConfig{})
	in := b.Accept()
	b.Headers(in.ID, true, proxytest.Fields(":status", "200", "content-type", "application/grpc", "grpc-status", "0")...)
	s.c.Response(id)
	var names []string
	for _, f := range in.Blocks[0] {
		names = append(names, f.Name)
	}
	want := []string{":method", ":scheme", ":path", ":authority", "content-type", "te", "user-agent", "x-kept", "grpc-timeout", "authorization"}
	if !slices.Equal(names, want) {
		t.Errorf("the engine read the fields %v, want %v", names, want)
	}
	if in.Header(":authority") != "engine.test:15002" || in.Header("authorization") != "Bearer "+gateway.Token {
		t.Errorf("the engine read %v", in.Blocks[0])
	}
	// A content-length that lies is a malformed request (RFC 9113, 8.1.1), though gRPC
	// servers ignore it: nothing a client of ours sends has one.
	over := s.c.Open(s.good("content-length", "3"), false)
	s.c.Data(over, true, body)
	onlyReset.check(t, s.c.Response(over))
}

// dialInto makes connections to l and hands the other ends out.
func dialInto(t *testing.T, l net.Listener, ends chan<- net.Conn) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		near, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		ends <- proxytest.Accept(t, l)
		return near, nil
	}
}

// Row 26: more than 64 KiB of headers.
func TestTooManyHeaders(t *testing.T) {
	s := newScene(t, gateway.Config{})
	before := s.Spark.Calls("")
	var many []string
	for i := range 30 {
		many = append(many, "x-"+strconv.Itoa(i), strings.Repeat("v", 2200))
	}
	tooLarge := refused(codes.ResourceExhausted, "HEADERS_TOO_LARGE")
	tooLarge.check(t, s.send(s.good(many...), aliceRequest))
	// What says that it is gRPC may come behind what is too large.
	late := s.good()
	for i, f := range late {
		if f.Name == "content-type" {
			late = append(append(slices.Delete(slices.Clone(late), i, i+1), proxytest.Fields(many...)...), f)
			break
		}
	}
	tooLarge.check(t, s.send(late, aliceRequest))
	// A request that is no call reads text.
	page := proxytest.Fields(append([]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"}, many...)...)
	if got := s.c.Response(s.c.Open(page, true)); got.Header(":status") != "431" || !strings.Contains(string(got.Data), "limits.header_bytes") {
		t.Errorf("the client read %v %q", got.Blocks, got.Data)
	}
	c := s.Client(proxytest.PeerConfig{Lenient: true})
	c.Open(s.good("x-big", strings.Repeat("v", 1<<20)), true)
	c.WaitClosed()
	if n := s.Spark.Calls("") - before; n != 0 {
		t.Errorf("the engine saw %d calls", n)
	}
	if after := s.send(s.good(), aliceRequest); after.Trailer("grpc-status") != "0" {
		t.Errorf("a good call on the same connection read %v", after.Blocks)
	}
}

// Row 27: trailers of a client are no metadata.
func TestClientTrailersChangeNothing(t *testing.T) {
	s := newScene(t, gateway.Config{})
	id := s.c.Open(s.good(), false)
	s.c.Data(id, false, proxytest.Message(aliceRequest))
	s.c.Headers(id, true, proxytest.Fields("x-session-id", string(s.bob), "authorization", "Bearer x")...)
	if got := s.c.Response(id); got.Trailer("grpc-status") != "0" {
		t.Errorf("the client read %v", got.Blocks)
	}
	rs := s.Spark.Recorded("AnalyzePlan")
	last := rs[len(rs)-1]
	if user := proxytest.UserID(last.Messages()[0]); user != "alice" || len(last.Metadata.Get("x-session-id")) != 0 {
		t.Errorf("the engine saw user %q, metadata %v", user, last.Metadata)
	}
}

// Row 35: every message of an upload is checked; the cut one does not arrive,
// and the upload does not look complete.
func TestUploadThatChangesItsSession(t *testing.T) {
	for name, second := range map[string]string{"another session_id": spark2, "another owner's": sparkB} {
		for _, together := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s together=%v", name, together), func(t *testing.T) {
				s := newScene(t, gateway.Config{})
				before := s.Spark.Calls("AddArtifacts")
				id := s.c.Open(proxytest.Call(proxytest.SparkService+"AddArtifacts", s.Credentials(s.alice, "alice")...), false)
				first, bad := proxytest.Message(aliceRequest), proxytest.Message(proxytest.Request(second, ""))
				if together {
					s.c.Data(id, true, append(first, bad...))
				} else {
					s.c.Data(id, false, first)
					s.Spark.WaitCalls(t, "AddArtifacts", before+1)
					s.c.Data(id, true, bad)
				}
				got := s.c.Response(id)
				refused(codes.InvalidArgument, "SPARK_SESSION_CHANGED").check(t, got)
				for _, r := range s.Spark.Recorded("AddArtifacts")[before:] {
					_ = r.Wait(t)
					if r.HalfClosed() || len(r.Messages()) > 1 {
						t.Errorf("the engine read %d messages, and the end: %v", len(r.Messages()), r.HalfClosed())
					}
				}
			})
		}
	}
}

// Row 39: the stream over the bound.
func TestHundredAndFirstStream(t *testing.T) {
	s := newScene(t, gateway.Config{})
	s.Spark.Script("", proxytest.Hang())
	before := s.Spark.Calls("")
	limit := relay.DefaultLimits().Streams
	for range limit {
		id := s.c.Open(s.good(), false)
		s.c.Data(id, true, proxytest.Message(aliceRequest))
	}
	id := s.c.Open(s.good(), false)
	if got := s.c.Response(id); !got.Reset || got.Code != http2.ErrCodeRefusedStream {
		t.Errorf("the client read %v, reset=%v %v", got.Blocks, got.Reset, got.Code)
	}
	s.Spark.WaitCalls(t, "", before+limit)
	s.c.Barrier()
	if n := s.Spark.Calls("") - before; n != limit {
		t.Errorf("the engine saw %d calls", n)
	}
}

// Row 39: the request over the rate.
func TestRequestsOverTheRate(t *testing.T) {
	s := newScene(t, gateway.Config{Quotas: proxy.Quotas{Session: proxy.Quota{Requests: 1}}})
	before, passed := s.Spark.Calls(""), 0
	for {
		got := s.send(s.good(), aliceRequest)
		if got.Trailer("grpc-status") != "0" {
			refused(codes.ResourceExhausted, "RATE_LIMITED").check(t, got)
			break
		}
		if passed++; passed > 100 {
			t.Fatal("a hundred requests passed where one each second may")
		}
	}
	if n := s.Spark.Calls("") - before; n != passed || passed < 10 {
		t.Errorf("the engine saw %d calls, %d were let in", n, passed)
	}
	if got := s.send(proxytest.Call(analyze, s.Credentials(s.bob, "bob")...), proxytest.Request(sparkB, "bob")); got.Trailer("grpc-status") != "0" {
		t.Errorf("another tenant read %v", got.Blocks)
	}
	release := s.send(proxytest.Call(proxytest.SparkService+"ReleaseExecute", s.Credentials(s.alice, "alice")...), aliceRequest)
	if release.Trailer("grpc-status") != "0" {
		t.Errorf("what frees memory read %v", release.Blocks)
	}
}

// Row 40: what is not HTTP/2 on the port.
func TestOtherProtocolsOnThePort(t *testing.T) {
	s := newScene(t, gateway.Config{HandshakeTimeout: 3 * time.Second, Limits: relay.Limits{Preface: 3 * time.Second}})
	before := s.Spark.Calls("")
	tests := []struct {
		name, say, want string
	}{
		{"nothing", "", ""},
		{"half a preface", http2.ClientPreface[:7], ""},
		{"garbage", "\x00\x01\x02\x03 this is nothing\r\n\r\n", ""},
		{"preface and garbage", http2.ClientPreface + "GET / HTTP/1.1\r\n\r\n", ""},
		{"PRI smuggled in HTTP/1.1", "PRI * HTTP/1.1\r\nhost: x\r\n\r\nSM\r\n\r\n", ""},
		{"a Spark method by HTTP/1.1", "POST " + analyze + " HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", "HTTP/1.1 4"},
		{"h2c upgrade", "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n", "HTTP/1.1 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := s.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, tt.say); err != nil {
				t.Fatal(err)
			}
			if tt.want != "" {
				answer := make([]byte, len(tt.want))
				_ = conn.SetReadDeadline(time.Now().Add(proxytest.Patience))
				if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != tt.want {
					t.Errorf("answered %q, %v; want %q", answer, err, tt.want)
				}
				return
			}
			closed(t, conn)
		})
	}
	t.Run("TLS by a client that offers HTTP/1.1 only", func(t *testing.T) {
		cfg := s.Certs.Client.Clone()
		cfg.NextProtos = []string{"spdy/3"}
		if conn, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", s.Addr()); err == nil {
			_ = conn.Close()
			t.Error("a protocol that we do not speak was agreed on")
		}
	})
	if n := s.Spark.Calls("") - before; n != 0 {
		t.Errorf("the engine saw %d calls", n)
	}
	if got := s.send(s.good(), aliceRequest); got.Trailer("grpc-status") != "0" {
		t.Errorf("a good call read %v", got.Blocks)
	}
}

func TestTLSToAPortWithoutACertificate(t *testing.T) {
	s := &scene{t: t, Gateway: gateway.Start(t, gateway.Config{Plaintext: true})}
	conn, err := s.DialTLS(t.Context())
	if err == nil {
		_ = conn.Close()
		t.Fatal("TLS was agreed on")
	}
	if !strings.Contains(err.Error(), "alert") && !strings.Contains(err.Error(), "tls:") {
		t.Errorf("no alert: %v", err)
	}
}

// closed waits until the other side closed conn; what comes before is ignored.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(proxytest.Patience))
	if _, err := io.Copy(io.Discard, conn); err != nil && isTimeout(err) {
		t.Error("the connection is still open")
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // of a connection itself
	return ok && ne.Timeout()
}

// Row 41: frames of types that nobody knows.
func TestUnknownFramesOnThePort(t *testing.T) {
	s := newScene(t, gateway.Config{})
	id := s.c.Open(s.good(), false)
	for _, typ := range []http2.FrameType{0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x7f} {
		s.c.Frame(typ, 0, 0, []byte("x"))
		s.c.Frame(typ, 0xff, id, []byte("x"))
	}
	s.c.Data(id, true, proxytest.Message(aliceRequest))
	if got := s.c.Response(id); got.Trailer("grpc-status") != "0" {
		t.Errorf("the client read %v", got.Blocks)
	}
}

// Row 28: a claim of 4 GiB costs nothing.
func TestClaimedLengthCostsNothing(t *testing.T) {
	s := newScene(t, gateway.Config{}) // no bound on messages: the claim is believed, and still free
	s.Spark.Script("", proxytest.Hang())
	before := heap()
	for range 50 {
		id := s.c.Open(s.good(), false)
		s.c.Data(id, false, append([]byte{0, 0xff, 0xff, 0xff, 0xff}, aliceRequest...))
	}
	s.c.Barrier()
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc) //nolint:gosec // far below 2^63
}
