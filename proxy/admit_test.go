package proxy

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/grpc/codes"
)

// The numbers are the rows of the table of bad inputs; no row may reach a backend.
func TestRefusedBeforeAnyEngine(t *testing.T) {
	two := func(name, a, b string) []string { return []string{name + ": " + a, name + ": " + b} }
	for _, tc := range []struct {
		name   string
		head   *relay.Header
		reason string
		http   string // "" = 200
	}{
		{"1 no token", sparkHead("Config", "authorization:"), "TOKEN_MISSING", ""},
		{"2 basic", sparkHead("Config", "authorization: Basic eDp5"), "TOKEN_SCHEME", ""},
		{"2 empty bearer", sparkHead("Config", "authorization: Bearer "), "TOKEN_MISSING", ""},
		{"2 two tokens", sparkHead("Config", two("authorization", "Bearer a", "Bearer b")...), "TOKEN_AMBIGUOUS", ""},
		{"2 the same twice", sparkHead("Config", two("authorization", "Bearer a", "Bearer a")...), "TOKEN_AMBIGUOUS", ""},
		{"4 bad signature", sparkHead("Config", "authorization: Bearer forged"), "TOKEN_INVALID", ""},
		{"10 another's session that exists", sparkHead("Config", "authorization: Bearer "+bobToken), "SESSION_DENIED", ""},
		{"10 another's session that does not", sparkHead("Config", "authorization: Bearer "+bobToken, "x-session-id: s-nothing"), "SESSION_DENIED", ""},
		{"11 path without slash", sparkHead("Config", ":path: spark.connect.SparkConnectService/Config"), "METHOD_UNKNOWN", ""},
		{"12 two slashes", sparkHead("Config", ":path: //spark.connect.SparkConnectService/Config"), "METHOD_UNKNOWN", ""},
		{"13 dots", sparkHead("Config", ":path: /x/../spark.connect.SparkConnectService/Config"), "METHOD_UNKNOWN", ""},
		{"14 escaped", sparkHead("Config", ":path: /spark%2econnect.SparkConnectService/Config"), "METHOD_UNKNOWN", ""},
		{"14 query", sparkHead("Config", ":path: "+sparkService+"Config?x=1"), "METHOD_UNKNOWN", ""},
		{"15 star", sparkHead("Config", ":path: *"), "METHOD_UNKNOWN", ""},
		{"16 reflection", sparkHead("Config", ":path: /grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), "METHOD_UNKNOWN", ""},
		{"17 GET", sparkHead("Config", ":method: GET"), "NOT_POST", "405"},
		{"17 +json", sparkHead("Config", "content-type: application/grpc+json"), "NOT_GRPC", "415"},
		{"18 unknown method", sparkHead("Config2"), "METHOD_UNKNOWN", ""},
		{"18 other case", sparkHead("config"), "METHOD_UNKNOWN", ""},
		{"19 two sessions", sparkHead("Config", two("x-session-id", aliceSession, bobSession)...), "SESSION_ID_AMBIGUOUS", ""},
		{"19 the same twice", sparkHead("Config", two("x-session-id", aliceSession, aliceSession)...), "SESSION_ID_AMBIGUOUS", ""},
		{"no session", sparkHead("Config", "x-session-id:"), "SESSION_ID_MISSING", ""},
		{"empty session", sparkHead("Config", "x-session-id: "), "SESSION_ID_MISSING", ""},
		{"21 transfer-encoding", sparkHead("Config", "transfer-encoding: chunked"), "HEADER_MALFORMED", "400"},
		{"21 te gzip", sparkHead("Config", "te: gzip"), "HEADER_MALFORMED", "400"},
		{"24 binary", sparkHead("Config", "x-foo-bin: !!!"), "HEADER_MALFORMED", "400"},
		{"25 timeout below zero", sparkHead("Config", "grpc-timeout: -1S"), "HEADER_MALFORMED", "400"},
		{"25 timeout too long", sparkHead("Config", "grpc-timeout: 123456789012345S"), "HEADER_MALFORMED", "400"},
		{"25 timeout without unit", sparkHead("Config", "grpc-timeout: 10"), "HEADER_MALFORMED", "400"},
		{"42 two names, two tokens", sparkHead("Config", "authentication: Bearer other"), "TOKEN_AMBIGUOUS", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			s := tr.send(tc.head)
			if s.backend != nil || s.reply == nil {
				t.Fatal("forwarded")
			}
			if got := reasonOf(t, s.reply); got != tc.reason {
				t.Errorf("reason %s, want %s", got, tc.reason)
			}
			if want := max(tc.http, "200"); s.reply.Status != want {
				t.Errorf("status %s, want %s", s.reply.Status, want)
			}
			if n := tr.registry.lookups; n != 0 {
				t.Errorf("the registry was asked %d times", n)
			}
		})
	}
}

func TestPlainHTTPGetsAPlainAnswer(t *testing.T) {
	for _, tc := range []struct {
		name string
		head *relay.Header
		http string
		grpc string
	}{
		{"17 JSON to a method", sparkHead("Config", "content-type: application/json"), "415", "3"},
		{"17 GET to a method", sparkHead("Config", ":method: GET", "content-type:"), "415", "3"},
		{"grpc-web", sparkHead("Config", "content-type: application/grpc-web"), "415", "3"},
		{"a page that is not there", sparkHead("", ":path: /favicon.ico", "content-type:"), "404", "12"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newTestRouter(t, nil).send(tc.head)
			if s.reply == nil || s.reply.Status != tc.http || len(s.reply.Body) == 0 {
				t.Fatalf("got %+v", s.reply)
			}
			if got := headerValue(s.reply.Header, "grpc-status"); got != tc.grpc {
				t.Errorf("grpc-status %s, want %s", got, tc.grpc)
			}
		})
	}
}

func TestTokenErrorsAreWorded(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name   string
		err    error
		reason string
		text   string
	}{
		{"expired", &auth.ExpiredError{Expired: now.Add(-3*time.Minute - time.Second)}, "TOKEN_EXPIRED", "token expired 3 minutes ago: run `sconce token issue " + aliceSession + "`"},
		{"early", auth.ErrNotYet, "TOKEN_NOT_YET_VALID", "clock"},
		{"too long", auth.ErrTooLong, "TOKEN_INVALID", "too long"},
		{"malformed", auth.ErrMalformed, "TOKEN_INVALID", "copied whole"},
		{"algorithm", auth.ErrAlgorithm, "TOKEN_INVALID", "algorithm"},
		{"key", auth.ErrUnknownKey, "TOKEN_INVALID", "key"},
		{"signature", auth.ErrSignature, "TOKEN_INVALID", "signature"},
		{"header", auth.ErrHeader, "TOKEN_INVALID", "not a session token"},
		{"claims", fmt.Errorf("%w: sid is missing", auth.ErrClaims), "TOKEN_INVALID", "claims"},
		{"issuer", auth.ErrIssuer, "TOKEN_INVALID", "issuer"},
		{"audience", auth.ErrAudience, "TOKEN_INVALID", "audience"},
		{"unknown", fmt.Errorf("disk on fire at /secret"), "INTERNAL", "request id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, func(c *RouterConfig) { c.Now = func() time.Time { return now } })
			tr.tokens.fail(aliceToken, tc.err)
			s := tr.send(sparkHead("Config"))
			st := statusOf(t, s.reply)
			if info, retry := detailsOf(t, st); info.GetReason() != tc.reason || retry != nil {
				t.Errorf("reason %s, retry %v", info.GetReason(), retry)
			}
			if !strings.Contains(st.Message, tc.text) || strings.Contains(st.Message, "secret") {
				t.Errorf("message %q", st.Message)
			}
		})
	}
}

// A stranger reads the same bytes whether or not there is such a session, and
// whatever became of it.
func TestStrangerCannotTellWhetherASessionExists(t *testing.T) {
	tr := newTestRouter(t, nil)
	tr.registry.set("s-closed", nil)
	var answers []string
	for _, session := range []string{aliceSession, "s-closed", "s-nothing", strings.Repeat("x", 5000)} {
		s := tr.send(sparkHead("ExecutePlan", "authorization: Bearer "+bobToken, "x-session-id: "+session))
		answers = append(answers, fmt.Sprintf("%+v", *s.reply))
	}
	for _, a := range answers[1:] {
		if a != answers[0] {
			t.Errorf("answers differ:\n%s\n%s", answers[0], a)
		}
	}
	if tr.registry.lookups != 0 {
		t.Error("the registry was asked for a stranger")
	}
}

// The same holds where the registry names another owner than the token, in the
// same session.
func TestTokenThatTheRegistryContradicts(t *testing.T) {
	stranger := newTestRouter(t, nil).send(sparkHead("Config", "x-session-id: s-nothing")).reply
	for _, tc := range []struct {
		name   string
		change func(*sessions.Session)
	}{
		{"other owner", func(s *sessions.Session) { s.Owner = "bob" }},
		{"other organisation", func(s *sessions.Session) { s.Org = "umbrella" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			route := aliceRoute(tr.cluster)
			tc.change(&route.Session)
			tr.registry.set(aliceSession, route)
			s := tr.send(sparkHead("Config"))
			if s.backend != nil || fmt.Sprint(s.reply) != fmt.Sprint(stranger) {
				t.Errorf("got %+v", s.reply)
			}
		})
	}
}

func TestOutgoingHeader(t *testing.T) {
	in := head(
		":method: POST", ":scheme: https", ":path: "+sparkService+"Config", ":authority: sconce.test:8085",
		"host: other.test", "te: trailers", "content-type: application/grpc", "user-agent: grpc-python/1.76",
		"content-length: 12", "x-session-id: "+aliceSession, "grpc-accept-encoding: identity, deflate, gzip",
		"authorization: Bearer "+aliceToken, "x-forwarded-for: 1.2.3.4", "x-sconce-user: root", "grpc-previous-rpc-attempts: 3",
		"grpc-timeout: 10S", "x-custom: a", "x-custom: b", "x-custom-bin: AAEC", "grpc-trace-bin: AA==",
	)
	want := head(
		":method: POST", ":scheme: http", ":path: "+sparkService+"Config", ":authority: spark.test:15002",
		"te: trailers", "content-type: application/grpc", "user-agent: grpc-python/1.76",
		"grpc-accept-encoding: identity, deflate, gzip",
		"grpc-timeout: 10S", "x-custom: a", "x-custom: b", "x-custom-bin: AAEC", "grpc-trace-bin: AA==",
		"authorization: Bearer cluster-secret",
	)
	want.Fields[len(want.Fields)-1].Sensitive = true
	s := newTestRouter(t, nil).send(in)
	if s.out == nil || !slices.Equal(s.out.Fields, want.Fields) {
		t.Errorf("got  %v\nwant %v", s.out, want.Fields)
	}
	s.finish(relay.Stats{})
}

func TestAuthenticationHeaderOfOldJVMClients(t *testing.T) {
	tr := newTestRouter(t, nil)
	for _, h := range []*relay.Header{
		sparkHead("Config", "authorization:", "authentication: Bearer "+aliceToken),
		sparkHead("Config", "authentication: Bearer "+aliceToken),
		sparkHead("Config", "authorization: bearer "+aliceToken),
	} {
		s := tr.send(h)
		if s.backend == nil {
			t.Fatalf("refused: %+v", s.reply)
		}
		if got := s.out.Values("authentication"); got != nil {
			t.Error("the caller's token reached the engine")
		}
		if got := s.out.Values("authorization"); !slices.Equal(got, []string{"Bearer cluster-secret"}) {
			t.Errorf("authorization: %d values", len(got))
		}
		s.finish(relay.Stats{})
	}
}

func TestClusterWithoutATokenGetsNone(t *testing.T) {
	tr := newTestRouter(t, nil)
	bare := &sessions.Cluster{Name: "bare", Address: "bare.test:1", TLS: &sessions.ClusterTLS{}}
	tr.registry.set(aliceSession, aliceRoute(bare))
	s := tr.send(sparkHead("Config", ":scheme: http"))
	if got := s.out.Get("authorization"); got != "" {
		t.Error("the caller's token reached the engine")
	}
	if got := s.out.Get(":scheme"); got != "https" {
		t.Errorf(":scheme %s", got)
	}
	s.finish(relay.Stats{})
}

func TestCodesOfTheOrder(t *testing.T) {
	for _, tc := range []struct {
		row  Refusal
		code codes.Code
	}{
		{refuseMethod, codes.Unimplemented}, {refuseContentType, codes.InvalidArgument},
		{refuseTwoSessionIDs, codes.InvalidArgument}, {refuseTokenMissing, codes.Unauthenticated},
		{refuseTokenExpired, codes.Unauthenticated}, {refuseDenied, codes.PermissionDenied},
		{refuseSessionClosed, codes.FailedPrecondition}, {refuseRegistry, codes.Unavailable},
		{refuseCompressed, codes.Unimplemented}, {refuseHeader, codes.Internal},
	} {
		if tc.row.Code != tc.code {
			t.Errorf("%s is %s, want %s", tc.row.Reason, tc.row.Code, tc.code)
		}
	}
}

func TestTimeoutValid(t *testing.T) {
	for in, want := range map[string]bool{
		"1S": true, "99999999n": true, "0m": true, "10H": true, "5M": true, "5u": true,
		"": false, "S": false, "-1S": false, "+1S": false, "1": false, "1s": false, "123456789S": false, "1.5S": false, "\t1S": false,
	} {
		if timeoutValid(in) != want {
			t.Errorf("%q: want %v", in, want)
		}
	}
}

// FuzzBinaryValid holds the check of -bin fields against the decoder that
// grpc-go has for them.
func FuzzBinaryValid(f *testing.F) {
	for _, s := range []string{"", "AA==", "AA", "AAE", "AAECAwQ", "!!!", "A", "AA=", "A===", "====", "+/+/", "AA\n=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(s, ", \r\n") {
			return // a list, or what no header can hold and Go's decoder skips
		}
		enc := base64.RawStdEncoding
		if len(s)%4 == 0 {
			enc = base64.StdEncoding
		}
		if _, err := enc.DecodeString(s); (err == nil) != binaryValid(s) {
			t.Errorf("%q: decoder says %v, we say %v", s, err, binaryValid(s))
		}
	})
}

// FuzzPercentEncode: what we write, clients read back.
func FuzzPercentEncode(f *testing.F) {
	f.Add("plain")
	f.Add("100% é\x00\n")
	f.Fuzz(func(t *testing.T, s string) {
		e := percentEncode(s)
		if back, err := url.PathUnescape(e); err != nil || back != s {
			t.Errorf("%q became %q, read back as %q (%v)", s, e, back, err)
		}
		for _, c := range []byte(e) {
			if c < ' ' || c > '~' {
				t.Errorf("%q has byte %#x", e, c)
			}
		}
	})
}
