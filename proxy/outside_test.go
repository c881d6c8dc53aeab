package proxy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/sessions"
)

// trustIn makes principals that believe o, whose keys are those that it has now
// or, where pending is not nil, are still being fetched.
func trustIn(t *testing.T, o *proxytest.OIDC, dataPath bool, missing func(*auth.PublishedKeys) error) func(*proxytest.Keys) proxy.TokenVerifier {
	return func(k *proxytest.Keys) proxy.TokenVerifier {
		var keys *auth.PublishedKeys
		keys = auth.NewPublishedKeys(func() error { return missing(keys) })
		trust, err := auth.NewTrust(auth.TrustConfig{
			Issuer: o.URL, Audience: "sconce", Keys: keys, DataPath: dataPath, AdminRoles: []string{"sconce-admin"},
			Claims: auth.ClaimNames{Org: "org", Roles: "realm_access.roles"},
		})
		if err != nil {
			t.Fatal(err)
		}
		all, err := auth.NewPrincipals(k.Verifier, trust)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
}

// fetchAtOnce has the keys there when the first token asks for them.
func fetchAtOnce(t *testing.T, o *proxytest.OIDC) func(*auth.PublishedKeys) error {
	return func(keys *auth.PublishedKeys) error {
		if _, err := keys.Replace(o.JWKS()); err != nil {
			t.Error(err)
		}
		done := make(chan struct{})
		close(done)
		return &auth.PendingError{Done: done}
	}
}

// outside calls the session with a token of the outside issuer.
func (s *scene) outside(id sessions.ID, token string) proxytest.Stream {
	spark := spark1
	if id != s.alice {
		spark = spark2 // spark1 is bound to hers
	}
	return s.send(proxytest.Call(analyze, "authorization", "Bearer "+token, "x-session-id", string(id)), proxytest.Request(spark, "mallory"))
}

// A token of an outside issuer opens its subject's sessions and nobody else's,
// and tells nobody whether a session is there.
func TestOutsideTokens(t *testing.T) {
	core, logged := observer.New(zapcore.DebugLevel)
	o := proxytest.StartOIDC(t, nil)
	s := newScene(t, gateway.Config{
		HoldTimeout: 3 * time.Second, UnaryHold: 3 * time.Second, Logger: zap.New(core),
		Verifier: trustIn(t, o, true, fetchAtOnce(t, o)),
	})
	alice, denied := o.Token("alice", "acme"), refused(codes.PermissionDenied, "SESSION_DENIED")
	none, err := sessions.NewID(time.Now(), strings.NewReader(strings.Repeat("x", 64)))
	if err != nil {
		t.Fatal(err)
	}
	cold := s.Session("alice", sessions.Active) // that no cache knows
	var denials []string
	for _, c := range []struct {
		name  string
		id    sessions.ID
		token string
		want  want
	}{
		{"the owner", s.alice, alice, want{calls: 1}},
		{"the owner, again", s.alice, alice, want{calls: 1}},
		{"the owner, of one that no cache knows", cold, alice, want{calls: 1}},
		{"the owner with a token of 10 KiB", s.alice, o.Token("alice", "acme", "groups", strings.Repeat("g", 7<<10)), want{calls: 1}},
		{"the owner of a closed one", s.closed, alice, refused(codes.FailedPrecondition, "SESSION_CLOSED")},
		{"the owner of a failed one", s.failed, alice, refused(codes.FailedPrecondition, "SESSION_FAILED")},
		{"the owner of a pending one", s.pending, alice, refused(codes.Unavailable, "SESSION_PENDING")},
		{"a stranger, active", s.alice, o.Token("carol", "acme"), denied},
		{"a stranger, closed", s.closed, o.Token("carol", "acme"), denied},
		{"a stranger, failed", s.failed, o.Token("carol", "acme"), denied},
		{"a stranger, pending", s.pending, o.Token("carol", "acme"), denied},
		{"a stranger, none", none, o.Token("carol", "acme"), denied},
		{"the owner's, of none", none, alice, denied},
		{"no id at all", "../../x", alice, denied},
		{"an admin of the organisation", s.alice, o.Token("carol", "acme", proxytest.Admin()...), denied},
		{"a namesake of another organisation", s.alice, o.Token("alice", "other"), denied},
		{"no organisation", s.alice, o.Token("alice", "acme", "org", nil), tokenInvalid},
		{"another audience", s.alice, o.Token("alice", "acme", "aud", "account"), tokenInvalid},
		{"another issuer", s.alice, o.Token("alice", "acme", "iss", "https://evil.example"), tokenInvalid},
		{"expired", s.alice, o.Token("alice", "acme", "iat", 1, "exp", 2), refused(codes.Unauthenticated, "TOKEN_EXPIRED")},
		{"18 KiB", s.alice, o.Token("alice", "acme", "g", strings.Repeat("g", 14<<10)), tokenInvalid},
		{"our own issuer's session token", s.alice, s.Keys.Session(string(s.alice), "alice"), want{calls: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &scene{Gateway: s.Gateway, t: t, alice: s.alice, c: s.Client(proxytest.PeerConfig{})}
			before := s.Spark.Calls("")
			got := s.outside(c.id, c.token)
			c.want.check(t, got)
			if n := s.Spark.Calls("") - before; n != c.want.calls {
				t.Errorf("the engine saw %d calls, want %d", n, c.want.calls)
			}
			if c.want == denied {
				denials = append(denials, got.Trailer("grpc-message"))
			}
		})
	}
	for _, d := range denials {
		if d != denials[0] {
			t.Errorf("one who is denied reads %q, another %q", d, denials[0])
		}
	}
	wantStamped(t, s)
	noToken(t, s.Spark.Recorded(""), logged.All())
}

// wantStamped: whatever the requests said, the engine saw Alice.
func wantStamped(t *testing.T, s *scene) {
	t.Helper()
	calls := s.Spark.Recorded("AnalyzePlan")
	for _, c := range calls[1:] { // the first is Bob's
		var req connect.AnalyzePlanRequest
		if err := proto.Unmarshal(c.Messages()[0], &req); err != nil {
			t.Fatal(err)
		}
		if user := req.GetUserContext().GetUserId(); user != "alice" {
			t.Errorf("the engine saw user %q", user)
		}
	}
}

// Where the data path is not for the issuer, its tokens open nothing, and the
// refusal says so; nor does an API key.
func TestOutsideTokensForControlAlone(t *testing.T) {
	o := proxytest.StartOIDC(t, nil)
	s := newScene(t, gateway.Config{Verifier: trustIn(t, o, false, fetchAtOnce(t, o))})
	key, _, _, err := auth.NewAPIKey(strings.NewReader(strings.Repeat("k", 30)))
	if err != nil {
		t.Fatal(err)
	}
	for credential, words := range map[string]string{o.Token("alice", "acme"): "tokens of its issuer open no session here", key: "it is an API key"} {
		got := s.outside(s.alice, credential)
		tokenInvalid.check(t, got)
		if message := got.Trailer("grpc-message"); !strings.Contains(message, words) {
			t.Errorf("%q, want %q", message, words)
		}
	}
}

// While the issuer's keys are being fetched the stream waits; where they can't
// be had it is told to come again, and an ExecutePlan that it never ran.
func TestOutsideTokenWaitsForKeys(t *testing.T) {
	o := proxytest.StartOIDC(t, nil)
	fetched, asked := make(chan struct{}), make(chan struct{}, 10)
	s := newScene(t, gateway.Config{Verifier: trustIn(t, o, true, func(*auth.PublishedKeys) error {
		asked <- struct{}{}
		select {
		case <-fetched:
			return auth.ErrIssuerAway
		default:
			return &auth.PendingError{Done: fetched}
		}
	})})
	away := refused(codes.Unavailable, "ISSUER_UNAVAILABLE")
	id := s.c.Open(proxytest.Call(analyze, "authorization", "Bearer "+o.Token("alice", "acme"), "x-session-id", string(s.alice)), false)
	s.c.Data(id, true, proxytest.Message(aliceRequest))
	<-asked // it is held, and others go on
	if got := s.send(s.good(), aliceRequest); got.Trailer("grpc-status") != "0" {
		t.Errorf("a call beside it: %v", got.Blocks)
	}
	close(fetched)
	away.check(t, s.c.Response(id))
	away.check(t, s.outside(s.alice, o.Token("alice", "acme")))

	const operation = "00112233-4455-4677-8899-aabbccddeeff"
	call := func(method string, message []byte) proxytest.Stream {
		return s.send(proxytest.Call(proxytest.SparkService+method, "authorization", "Bearer "+o.Token("alice", "acme"), "x-session-id", string(s.alice)), message)
	}
	away.check(t, call("ExecutePlan", proxytest.ExecutePlan(spark1, "alice", operation, true, nil)))
	if s.Spark.Calls("ExecutePlan") != 0 {
		t.Error("the engine saw a plan of nobody")
	}
}

// The registry away is not a denial.
func TestOutsideTokenWithoutRegistry(t *testing.T) {
	o := proxytest.StartOIDC(t, nil)
	s := newScene(t, gateway.Config{Verifier: trustIn(t, o, true, fetchAtOnce(t, o)), HoldTimeout: 3 * time.Second})
	cold := s.Session("alice", sessions.Active)
	s.Redis.SetError(errors.New("down").Error())
	refused(codes.Unavailable, "REGISTRY_UNAVAILABLE").check(t, s.outside(cold, o.Token("alice", "acme")))
}
