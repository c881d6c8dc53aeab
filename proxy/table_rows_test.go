package proxy_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// The rows of TestTableOfBadInputs.

func tokenRows() []row {
	return []row{
		{1, "no token", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call(analyze, "x-session-id", string(s.alice)), aliceRequest)
		}, refused(codes.Unauthenticated, "TOKEN_MISSING")},
		{2, "Basic", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call(analyze, "authorization", "Basic x", "x-session-id", string(s.alice)), aliceRequest)
		}, refused(codes.Unauthenticated, "TOKEN_SCHEME")},
		{2, "Bearer of nothing", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call(analyze, "authorization", "Bearer", "x-session-id", string(s.alice)), aliceRequest)
		}, refused(codes.Unauthenticated, "TOKEN_MISSING")},
		{2, "two authorization", func(s *scene) proxytest.Stream {
			return s.send(s.good("authorization", "Bearer x"), aliceRequest)
		}, refused(codes.InvalidArgument, "TOKEN_AMBIGUOUS")},
		{3, "expired by 31 s", func(s *scene) proxytest.Stream {
			return s.token(s.Keys.Expired(string(s.alice), "alice", 31*time.Second))
		}, refused(codes.Unauthenticated, "TOKEN_EXPIRED")},
		{3, "expired by 20 s, within the leeway", func(s *scene) proxytest.Stream {
			return s.token(s.Keys.Expired(string(s.alice), "alice", 20*time.Second))
		}, want{calls: 1}},
		{4, "alg none", func(s *scene) proxytest.Stream { return s.token(s.Keys.Unsigned(string(s.alice), "alice")) }, tokenInvalid},
		{4, "HS256 keyed with the public key", func(s *scene) proxytest.Stream { return s.token(s.Keys.Confused(string(s.alice), "alice")) }, tokenInvalid},
		{4, "signature of zeros", func(s *scene) proxytest.Stream {
			return s.token(proxytest.Resigned(s.Keys.Session(string(s.alice), "alice"), make([]byte, 64)))
		}, tokenInvalid},
		{4, "another key", func(s *scene) proxytest.Stream {
			return s.token(proxytest.NewKeys(s.t, nil).Session(string(s.alice), "alice"))
		}, tokenInvalid},
		{5, "crit", func(s *scene) proxytest.Stream { return s.header("crit", []string{"x"}, "x", 1) }, tokenInvalid},
		{5, "b64", func(s *scene) proxytest.Stream { return s.header("b64", false) }, tokenInvalid},
		{5, "wrong typ", func(s *scene) proxytest.Stream { return s.header("typ", "JWT") }, tokenInvalid},
		{5, "a control token", func(s *scene) proxytest.Stream { return s.token(s.Keys.Control("alice", true)) }, tokenInvalid},
		{6, "kid is a path", func(s *scene) proxytest.Stream { return s.header("kid", "../../etc/passwd") }, tokenInvalid},
		{6, "kid is SQL", func(s *scene) proxytest.Stream { return s.header("kid", "' or 1=1 --") }, tokenInvalid},
		{6, "kid of 2 KiB", func(s *scene) proxytest.Stream { return s.header("kid", strings.Repeat("k", 2048)) }, tokenInvalid},
		{6, "kid of 10 KiB", func(s *scene) proxytest.Stream { return s.header("kid", strings.Repeat("k", 10_240)) }, tokenInvalid},
		{7, "sid twice", func(s *scene) proxytest.Stream {
			claims := proxytest.JSON(s.Keys.Claims(string(s.alice), "alice"))
			return s.token(s.Keys.SignText(proxytest.JSON(s.Keys.Header()), `{"sid":"`+string(s.bob)+`",`+claims[1:]))
		}, tokenInvalid},
		{7, "SID beside sid", func(s *scene) proxytest.Stream { return s.claims("SID", "x") }, tokenInvalid},
		{8, "5 KiB", func(s *scene) proxytest.Stream { return s.claims("x", strings.Repeat("x", 5<<10)) }, tokenInvalid},
		{8, "60 KB of dots", func(s *scene) proxytest.Stream { return s.token(strings.Repeat(".", 60_000)) }, tokenInvalid},
		// Longer than a header may be, so it is no token any more: the frames that
		// carry it are a flood, which ends the connection before any field is read.
		{8, "1 MiB of dots", func(s *scene) proxytest.Stream {
			s.c = s.Client(proxytest.PeerConfig{Lenient: true}) // its writes fail at some point
			s.c.Open(proxytest.Call(analyze, "authorization", "Bearer "+strings.Repeat(".", 1<<20), "x-session-id", string(s.alice)), false)
			return proxytest.Stream{}
		}, want{ends: http2.ErrCodeEnhanceYourCalm}},
		// One field past what a field may be: its bytes are not decoded, and without
		// them no later block of this connection means anything (RFC 7541, 2.2).
		{8, "70 KB of dots", func(s *scene) proxytest.Stream {
			s.c = s.Client(proxytest.PeerConfig{Lenient: true})
			s.c.Open(proxytest.Call(analyze, "authorization", "Bearer "+strings.Repeat(".", 70_000), "x-session-id", string(s.alice)), false)
			return proxytest.Stream{}
		}, want{ends: http2.ErrCodeCompression}},
		{9, "%0A behind", func(s *scene) proxytest.Stream { return s.token(s.Keys.Session(string(s.alice), "alice") + "%0A") }, tokenInvalid},
		{9, "a space inside", func(s *scene) proxytest.Stream {
			return s.token(strings.Replace(s.Keys.Session(string(s.alice), "alice"), ".", " .", 1))
		}, tokenInvalid},
		{9, "= behind", func(s *scene) proxytest.Stream { return s.token(s.Keys.Session(string(s.alice), "alice") + "=") }, tokenInvalid},
		{9, "last bit flipped", func(s *scene) proxytest.Stream {
			return s.token(proxytest.FlipLastBit(s.Keys.Session(string(s.alice), "alice")))
		}, tokenInvalid},
		{42, "authentication alone", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call(analyze, "authentication", "Bearer "+s.Keys.Session(string(s.alice), "alice"), "x-session-id", string(s.alice)), aliceRequest)
		}, want{calls: 1}},
		{42, "both and equal", func(s *scene) proxytest.Stream {
			fields := s.good()
			return s.send(append(fields, proxytest.Fields("authentication", proxytest.Value(fields, "authorization"))...), aliceRequest)
		}, want{calls: 1}},
		{42, "both and different", func(s *scene) proxytest.Stream {
			return s.send(s.good("authentication", "Bearer "+s.Keys.Session(string(s.bob), "bob")), aliceRequest)
		}, refused(codes.InvalidArgument, "TOKEN_AMBIGUOUS")},
	}
}

func pathRows() []row {
	path := func(n int, path string, w want) row {
		return row{n, strconv.Quote(path), func(s *scene) proxytest.Stream { return s.path(path) }, w}
	}
	rows := []row{
		path(11, analyze[1:], unknown),
		path(12, "/"+analyze, unknown),
		path(13, "/x/.."+analyze, unknown),
		path(13, "/./"+analyze[1:], unknown),
		path(14, strings.Replace(analyze, ".", "%2e", 1), unknown),
		path(14, strings.Replace(analyze, "/A", "%2FA", 1), unknown),
		path(14, analyze+"?x=1", unknown),
		path(14, analyze+"/", unknown),
		path(14, strings.ToLower(analyze), unknown),
		path(15, "*", unknown),
		path(15, "", onlyReset), // malformed by RFC 9113, 8.3.1; it never becomes a request
		path(16, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", unknown),
		path(16, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", unknown),
		path(16, "/grpc.channelz.v1.Channelz/GetServers", unknown),
		path(18, proxytest.SparkService+"ExecutePlanNow", unknown),
		path(18, proxytest.SparkService, unknown),
	}
	return append(rows,
		row{16, "health is our own", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call("/grpc.health.v1.Health/Check"), nil)
		}, want{}},
		row{17, "GET", func(s *scene) proxytest.Stream {
			fields := s.good()
			fields[0].Value = "GET"
			return s.send(fields, aliceRequest)
		}, want{code: codes.InvalidArgument, reason: "NOT_POST", http: "405"}}, // 405, which says what is wrong, for the proposed 415
		row{17, "JSON", func(s *scene) proxytest.Stream {
			fields := s.good()
			for i := range fields {
				if fields[i].Name == "content-type" {
					fields[i].Value = "application/json"
				}
			}
			return s.send(fields, aliceRequest)
		}, want{code: codes.InvalidArgument, http: "415"}}, // not gRPC: plain text, without details
	)
}

func headerRows() []row {
	header := func(n int, name, value string, w want) row {
		return row{n, fmt.Sprintf("%q: %q", name, value), func(s *scene) proxytest.Stream { return s.send(s.good(name, value), aliceRequest) }, w}
	}
	return []row{
		{10, "another's session that exists", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call(analyze, "authorization", "Bearer "+s.Keys.Session(string(s.alice), "alice"), "x-session-id", string(s.bob)), aliceRequest)
		}, refused(codes.PermissionDenied, "SESSION_DENIED")},
		{10, "a session that does not exist", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call(analyze, "authorization", "Bearer "+s.Keys.Session(string(s.alice), "alice"), "x-session-id", "s-00000000000000000000000000"), aliceRequest)
		}, refused(codes.PermissionDenied, "SESSION_DENIED")},
		{10, "a good token of another user for the session", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call(analyze, s.Credentials(s.bob, "alice")...), aliceRequest)
		}, refused(codes.PermissionDenied, "SESSION_DENIED")},
		{19, "two x-session-id", func(s *scene) proxytest.Stream {
			return s.send(s.good("x-session-id", string(s.bob)), aliceRequest)
		}, refused(codes.InvalidArgument, "SESSION_ID_AMBIGUOUS")},
		{19, "two equal x-session-id", func(s *scene) proxytest.Stream {
			return s.send(s.good("x-session-id", string(s.alice)), aliceRequest)
		}, refused(codes.InvalidArgument, "SESSION_ID_AMBIGUOUS")},
		{19, "no x-session-id", func(s *scene) proxytest.Stream {
			return s.send(proxytest.Call(analyze, "authorization", "Bearer "+s.Keys.Session(string(s.alice), "alice")), aliceRequest)
		}, refused(codes.InvalidArgument, "SESSION_ID_MISSING")},
		header(20, "X-Session-Id", "s", onlyReset),
		header(20, "x-a", "a\rb", onlyReset),
		header(20, "x-a", "a\nb", onlyReset),
		header(20, "x-a", "a\x00b", onlyReset),
		header(20, "connection", "close", onlyReset),
		{20, "two :authority", func(s *scene) proxytest.Stream {
			return s.send(append(proxytest.Fields(":authority", "other"), s.good()...), aliceRequest)
		}, onlyReset},
		header(21, "transfer-encoding", "chunked", onlyReset),
		header(24, "x-foo-bin", "!!!", badHeader),
		header(25, "grpc-timeout", "-1S", badHeader),
		header(25, "grpc-timeout", "123456789012345S", badHeader),
		header(25, "grpc-timeout", "1", badHeader),
	}
}

func messageRows() []row {
	message := func(n int, name string, w want, parts ...[]byte) row {
		return row{n, name, func(s *scene) proxytest.Stream { return s.message(parts...) }, w}
	}
	framed := func(n int, name string, w want, parts ...[]byte) row {
		return row{n, name, func(s *scene) proxytest.Stream { return s.framed(parts...) }, w}
	}
	id := func(text string) []byte { return proxytest.Join(proxytest.Text(1, text), userField) }
	whole := proxytest.Message(aliceRequest)
	return []row{
		framed(28, "prefix of 4 GiB", refused(codes.ResourceExhausted, "MESSAGE_TOO_LARGE"), []byte{0, 0xff, 0xff, 0xff, 0xff}, aliceRequest),
		framed(28, "prefix of 129 MiB", refused(codes.ResourceExhausted, "MESSAGE_TOO_LARGE"), []byte{0, 0x08, 0x10, 0, 0}, aliceRequest),
		// A second message begins behind the first: one too many for the method.
		framed(29, "prefix shorter than the data", refused(codes.InvalidArgument, "MESSAGE_EXTRA"), whole, whole),
		framed(29, "prefix longer than the data", malformed, []byte{0, 0, 0, 1, 0}, aliceRequest),
		framed(29, "prefix of 3 bytes", badFraming, whole[:3]),
		framed(29, "flag 255", badFraming, proxytest.FlaggedMessage(255, aliceRequest)),
		// A compressed message cannot be checked, whatever grpc-encoding says.
		framed(30, "flag 1", refused(codes.Unimplemented, "COMPRESSION_UNSUPPORTED"), proxytest.FlaggedMessage(1, aliceRequest)),
		{30, "gzip", func(s *scene) proxytest.Stream {
			return s.body(s.good("grpc-encoding", "gzip"), proxytest.FlaggedMessage(1, aliceRequest))
		}, refused(codes.Unimplemented, "COMPRESSION_UNSUPPORTED")},
		message(31, "not a UUID", badSpark, id("session")),
		message(31, "1-1-1-1-1", badSpark, id("1-1-1-1-1")),
		message(31, "upper case", badSpark, id("AAAAAAAA-2222-4333-8444-555555555555")),
		message(31, "a path", badSpark, id("../../x")),
		message(31, "braces", badSpark, id("{11111111-2222-4333-8444-555555555555}")),
		message(31, "a line break behind", badSpark, id(spark1+"\n")),
		message(32, "session_id twice", malformed, sparkField, userField, sparkField),
		message(32, "another session_id behind", malformed, sparkField, userField, proxytest.Text(1, sparkB)),
		message(32, "user_context twice", malformed, sparkField, userField, userField),
		message(32, "user_id twice", malformed, sparkField, proxytest.Bytes(2, proxytest.Join(proxytest.Text(1, "a"), proxytest.Text(1, "b")))),
		message(33, "over-long tag of session_id", malformed, []byte{0x8a, 0x00, 36}, []byte(sparkB), userField),
		message(33, "over-long tag of user_context", malformed, sparkField, []byte{0x92, 0x00, 3, 0x0a, 1, 'x'}),
		message(33, "session_id as a varint", malformed, proxytest.Varint(1, 7), userField),
		message(33, "session_id as a varint, then right", malformed, proxytest.Varint(1, 7), sparkField, userField),
		message(33, "a group", malformed, sparkField, userField, []byte{0x0b, 0x0c}),
		message(33, "a truncated varint", malformed, sparkField, userField, []byte{0x18, 0xff}),
		message(33, "field number 0", malformed, sparkField, userField, []byte{0x02, 0x00}),
		message(33, "a length past the end", malformed, sparkField, userField, []byte{0x1a, 0x7f, 'x'}),
		message(33, "session_id not UTF-8", malformed, id(string([]byte{0xff, 0xfe})+spark1[2:])),
		message(34, "session_id missing", badSpark, userField),
		message(34, "session_id empty", badSpark, id("")),
		message(34, "another owner's session_id", refused(codes.PermissionDenied, "SPARK_SESSION_FOREIGN"), id(sparkB)),
		{36, "an empty stream", func(s *scene) proxytest.Stream {
			return s.c.Response(s.c.Open(s.good(), true))
		}, refused(codes.InvalidArgument, "MESSAGE_MISSING")},
		framed(36, "an empty stream, ended by empty data", refused(codes.InvalidArgument, "MESSAGE_MISSING")),
		message(36, "an empty message", badSpark),
	}
}

func sessionRows() []row {
	return []row{
		{37, "closed session", func(s *scene) proxytest.Stream { return s.session(s.closed) }, refused(codes.FailedPrecondition, "SESSION_CLOSED")},
		{37, "failed session", func(s *scene) proxytest.Stream { return s.session(s.failed) }, refused(codes.FailedPrecondition, "SESSION_FAILED")},
		{38, "pending session", func(s *scene) proxytest.Stream { return s.session(s.pending) }, refused(codes.Unavailable, "SESSION_PENDING")},
	}
}
