package control_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sconce-dev/sconce/auth"
	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/control"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine always answers, unless it is told otherwise.
type engine struct {
	err, setup error
	slow       time.Duration
}

func (e *engine) Prepare(context.Context, *sessions.Cluster, sessions.Session, sessions.SparkID) error {
	return e.setup
}

func (e *engine) Probe(context.Context, *sessions.Cluster) error {
	time.Sleep(e.slow)
	return e.err
}

func (e *engine) Version(context.Context, *sessions.Cluster) (string, error) { return "4.1.0", e.err }

func (e *engine) Release(context.Context, *sessions.Cluster, string, []sessions.SparkID) error {
	return nil
}

// api is the service behind a real gRPC connection, with real tokens.
type api struct {
	sconcev1.SessionServiceClient
	keys     sconcev1.KeyServiceClient
	clusters sconcev1.ClusterServiceClient
	trusted  *proxytest.OIDC // an outside issuer that is believed
	issuer   *auth.Issuer
	verifier *auth.Verifier
	memory   *storetest.Memory
	engine   *engine
	service  *control.Service
	log      *observer.ObservedLogs
	trail    trail
}

func start(t *testing.T) *api {
	t.Helper()
	return startWith(t, func(a *api) control.Verifier { return a.principals(t) })
}

// startBare is start without outside issuers, which need a network.
func startBare(t *testing.T) *api {
	t.Helper()
	return startWith(t, func(a *api) control.Verifier { return a.verifier })
}

func startWith(t *testing.T, verifier func(*api) control.Verifier) *api {
	t.Helper()
	core, log := observer.New(zapcore.DebugLevel)
	a := &api{memory: storetest.NewMemory(), engine: &engine{}, log: log}
	key := need(auth.GenerateSigningKey("ES256"))(t)
	a.issuer = need(auth.NewIssuer(auth.IssuerConfig{Key: key, Issuer: "sconce"}))(t)
	keys := need(auth.NewKeySet(auth.KeySetConfig{Own: []*auth.SigningKey{key}}))(t)
	a.verifier = need(auth.NewVerifier(auth.VerifierConfig{Keys: keys, Issuer: "sconce"}))(t)
	clusters := need(sessions.NewClusters([]sessions.Cluster{{Name: "c", Address: "127.0.0.1:1"}}))(t)
	waker := need(sessions.NewWaker(sessions.WakerConfig{Store: a.memory, Engine: a.engine, Clusters: clusters, ProbeTimeout: time.Millisecond}))(t)
	t.Cleanup(waker.Close)
	manager := need(sessions.NewManager(sessions.ManagerConfig{
		Store: a.memory, Tokens: a.memory, Keys: a.memory, Engine: a.engine, Issuer: a.issuer, Waker: waker, Clusters: clusters, Audit: &a.trail, Operators: []sessions.Operator{{Org: "ops"}},
		Logger: zap.New(core),
	}))(t)
	a.service = need(control.New(control.Config{
		Sessions: manager, Keys: manager, Clusters: manager, Operations: a.memory.Running, Version: manager.EngineVersion, Wakeable: clusters.Wakeable, Expires: manager.Expires, Verifier: verifier(a), Endpoint: "sconce.test:8085", Streams: func(context.Context, sessions.ID) (int64, error) { return 7, nil },
	}))(t)
	conn := serve(t, a.service)
	a.clusters = sconcev1.NewClusterServiceClient(conn)
	a.SessionServiceClient, a.keys = sconcev1.NewSessionServiceClient(conn), sconcev1.NewKeyServiceClient(conn)
	return a
}

func need[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func serve(t *testing.T, service *control.Service) *grpc.ClientConn {
	t.Helper()
	ln, server, done := bufconn.Listen(1<<16), grpc.NewServer(), make(chan struct{})
	service.Register(server)
	go func() {
		defer close(done)
		_ = server.Serve(ln)
	}()
	conn := need(grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) })))(t)
	t.Cleanup(func() { conn.Close(); server.Stop(); <-done })
	return conn
}

// as returns a context with a control token of that principal.
func (a *api) as(t *testing.T, subject, org string, admin bool) context.Context {
	t.Helper()
	token, _, err := a.issuer.Issue(auth.Grant{Kind: auth.KindControl, Subject: subject, Org: org, Admin: admin})
	if err != nil {
		t.Fatal(err)
	}
	return with(t, "authorization", "Bearer "+token)
}

func with(t *testing.T, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), pairs...)
}

func TestStory(t *testing.T) {
	a := start(t)
	ann := a.as(t, "ann", "acme", false)
	made, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{Name: "notebook"})
	if err != nil {
		t.Fatal(err)
	}
	s := made.GetSession()
	if s.GetState() != sconcev1.Session_ACTIVE || s.GetName() != "notebook" || s.GetOwner() != "ann" || s.GetOrganisation() != "acme" ||
		s.GetCluster() != "c" || s.GetGeneration() != 1 || time.Since(s.GetCreateTime().AsTime()) > time.Minute || s.GetCloseTime() != nil {
		t.Errorf("made %v", s)
	}

	list, err := a.ListSessions(ann, &sconcev1.ListSessionsRequest{Name: "notebook"})
	if err != nil || len(list.GetSessions()) != 1 || list.GetSessions()[0].GetId() != s.GetId() {
		t.Errorf("listed %v, %v", list, err)
	}
	issued, err := a.IssueSessionToken(ann, &sconcev1.IssueSessionTokenRequest{SessionId: s.GetId(), Lifetime: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	who, err := a.verifier.Verify(issued.GetToken(), auth.KindSession)
	if err != nil || who.Session != s.GetId() || who.TokenID != issued.GetTokenId() || !who.Expires.Equal(issued.GetExpireTime().AsTime()) {
		t.Errorf("the token says %+v, %v; the answer %v", who, err, issued)
	}
	want := fmt.Sprintf("sc://sconce.test:8085/;token=%s;x-session-id=%s", issued.GetToken(), s.GetId())
	if issued.GetConnectionString() != want || issued.GetEndpoint() != "sconce.test:8085" {
		t.Errorf("connection string %q", issued.GetConnectionString())
	}

	known, err := a.ListSessionTokens(ann, &sconcev1.ListSessionTokensRequest{SessionId: s.GetId()})
	if err != nil || len(known.GetTokens()) != 1 || known.GetTokens()[0].GetTokenId() != issued.GetTokenId() || known.GetTokens()[0].GetRevokeTime() != nil {
		t.Errorf("tokens %v, %v", known, err)
	}
	ended, err := a.RevokeSessionTokens(ann, &sconcev1.RevokeSessionTokensRequest{SessionId: s.GetId(), TokenIds: []string{issued.GetTokenId()}})
	if err != nil || len(ended.GetTokens()) != 1 || ended.GetTokens()[0].GetRevokeTime() == nil {
		t.Errorf("revoked %v, %v", ended, err)
	}
	_, err = a.RevokeSessionTokens(ann, &sconcev1.RevokeSessionTokensRequest{SessionId: s.GetId(), TokenIds: []string{"x"}})
	if status.Code(err) != codes.NotFound {
		t.Errorf("an unknown token: %v", err)
	}

	closed, err := a.CloseSession(a.as(t, "root", "acme", true), &sconcev1.CloseSessionRequest{SessionId: s.GetId()})
	if err != nil || closed.GetSession().GetState() != sconcev1.Session_CLOSED || closed.GetSession().GetCloseTime() == nil {
		t.Errorf("closed %v, %v", closed, err)
	}
	seen, err := a.DescribeSession(ann, &sconcev1.DescribeSessionRequest{SessionId: s.GetId()})
	if err != nil || seen.GetSession().GetState() != sconcev1.Session_CLOSED || seen.GetSession().GetReason() != "closed by root" {
		t.Errorf("described %v, %v", seen, err)
	}
}

// Answers and refusals name the request as the audit log does.
func TestAnswersNameTheirRequest(t *testing.T) {
	a := start(t)
	ctx := metadata.AppendToOutgoingContext(a.as(t, "ann", "acme", false), "x-sconce-peer", "192.0.2.7:4711")
	var good, bad metadata.MD
	_, made := a.CreateSession(ctx, &sconcev1.CreateSessionRequest{}, grpc.Header(&good))
	_, none := a.DescribeSession(ctx, &sconcev1.DescribeSessionRequest{SessionId: "s-034t1qv2i0g6u5p4c3b2a1908g"}, grpc.Header(&bad))
	lines := a.log.FilterMessage("audit").All()
	if made != nil || none == nil || len(lines) != 2 {
		t.Fatalf("%v, %v, %d lines", made, none, len(lines))
	}
	for i, md := range []metadata.MD{good, bad} {
		got := lines[i].ContextMap()
		if id := md.Get("x-request-id"); len(id) != 1 || got["request_id"] != id[0] || got["source"] != "192.0.2.7:4711" {
			t.Errorf("header %v, audited %v", md, got)
		}
	}
}

func TestListPages(t *testing.T) {
	a := start(t)
	ann := a.as(t, "ann", "acme", false)
	var want []string
	for range 5 {
		made, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, made.GetSession().GetId())
	}
	var got []string
	req := &sconcev1.ListSessionsRequest{PageSize: 2}
	for {
		page, err := a.ListSessions(ann, req)
		if err != nil || len(page.GetSessions()) > 2 {
			t.Fatalf("page %v, %v", page, err)
		}
		for _, s := range page.GetSessions() {
			got = append(got, s.GetId())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}

// Whatever is wrong has its code, a reason, a sentence, and a class for JVM
// clients; nothing is told of a session that is not the caller's.
func TestRefusals(t *testing.T) {
	a := start(t)
	ann, bob := a.as(t, "ann", "acme", false), a.as(t, "bob", "acme", false)
	made, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	anns, none := made.GetSession().GetId(), "s-034t1qv2i0g6u5p4c3b2a1908g"
	gone, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.GetSession().GetId()
	if _, err := a.CloseSession(ann, &sconcev1.CloseSessionRequest{SessionId: closed}); err != nil {
		t.Fatal(err)
	}
	describe := func(ctx context.Context, id string) error {
		_, err := a.DescribeSession(ctx, &sconcev1.DescribeSessionRequest{SessionId: id})
		return err
	}
	create := func(r *sconcev1.CreateSessionRequest) error { _, err := a.CreateSession(ann, r); return err }
	issue := func(id string, life *durationpb.Duration) error {
		_, err := a.IssueSessionToken(ann, &sconcev1.IssueSessionTokenRequest{SessionId: id, Lifetime: life})
		return err
	}
	_, listOrg := a.ListSessions(ann, &sconcev1.ListSessionsRequest{Organisation: true})
	for _, c := range []struct {
		name string
		err  error
		code codes.Code
	}{
		{"no token", describe(t.Context(), anns), codes.Unauthenticated},
		{"a session token", describe(with(t, "authorization", "Bearer "+a.sessionToken(t)), anns), codes.Unauthenticated},
		{"no token at all in it", describe(with(t, "authorization", "Bearer x.y.z"), anns), codes.Unauthenticated},
		{"another scheme", describe(with(t, "authorization", "Basic eDp5"), anns), codes.Unauthenticated},
		{"two tokens", describe(with(t, "authorization", "Bearer a", "authorization", "Bearer b"), anns), codes.InvalidArgument},
		{"a colleague's session", describe(bob, anns), codes.PermissionDenied},
		{"no such session", describe(bob, none), codes.PermissionDenied},
		{"no session id", describe(ann, "notebook"), codes.InvalidArgument},
		{"the organisation, by no admin", listOrg, codes.PermissionDenied},
		{"a name with a slash", create(&sconcev1.CreateSessionRequest{Name: "a/b"}), codes.InvalidArgument},
		{"a name that is taken", create(&sconcev1.CreateSessionRequest{Name: "a"}), codes.AlreadyExists},
		{"no such cluster", create(&sconcev1.CreateSessionRequest{Cluster: "none"}), codes.InvalidArgument},
		{"a token for a closed session", issue(closed, nil), codes.FailedPrecondition},
		{"a token for a year", issue(anns, durationpb.New(365*24*time.Hour)), codes.InvalidArgument},
		{"a token for less than nothing", issue(anns, durationpb.New(-time.Second)), codes.InvalidArgument},
		{"a span that is none", issue(anns, &durationpb.Duration{Seconds: 1, Nanos: -1}), codes.InvalidArgument},
	} {
		wantRefusal(t, c.name, c.err, c.code)
	}
	if there, not := describe(bob, anns), describe(bob, none); there.Error() != not.Error() {
		t.Errorf("a stranger learns that a session exists: %v, or not: %v", there, not)
	}
	a.memory.Fail(sessions.ErrUnavailable)
	wantRefusal(t, "registry away", describe(ann, anns), codes.Unavailable)
	a.memory.Fail(errors.New("secret cause"))
	wantRefusal(t, "something unknown", describe(ann, anns), codes.Internal)
	if err := describe(ann, anns); strings.Contains(err.Error(), "secret cause") {
		t.Errorf("a caller reads %v", err)
	}
}

func (a *api) sessionToken(t *testing.T) string {
	t.Helper()
	token, _, err := a.issuer.Issue(auth.Grant{Kind: auth.KindSession, Subject: "ann", Org: "acme", Session: "s"})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// wantRefusal returns the reason and says whether clients are told to try again.
func wantRefusal(t *testing.T, name string, err error, code codes.Code) (reason string, retry bool) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code || st.Message() == "" {
		t.Errorf("%s: %v, want %s", name, err, code)
	}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
			if d.GetDomain() != "sconce" || d.GetMetadata()["classes"] == "" {
				t.Errorf("%s: %v", name, d)
			}
		case *errdetails.RetryInfo:
			retry = true
		}
	}
	if reason == "" {
		t.Errorf("%s: no ErrorInfo", name)
	}
	return reason, retry
}

// A session that failed stays so: nobody is told to wait or to try again, but why
// it is and how to go on, and that is a way.
func TestClusterThatDoesNotAnswer(t *testing.T) {
	a := start(t)
	a.engine.err = errors.New("down")
	ann := a.as(t, "ann", "acme", false)
	_, create := a.CreateSession(ann, &sconcev1.CreateSessionRequest{Name: "a", RequestId: "x"})
	_, again := a.CreateSession(ann, &sconcev1.CreateSessionRequest{Name: "a", RequestId: "x"})
	list, err := a.ListSessions(ann, &sconcev1.ListSessionsRequest{})
	if err != nil || len(list.GetSessions()) != 1 || list.GetSessions()[0].GetState() != sconcev1.Session_FAILED {
		t.Fatalf("left behind: %v, %v", list, err)
	}
	left := list.GetSessions()[0]
	_, issue := a.IssueSessionToken(ann, &sconcev1.IssueSessionTokenRequest{SessionId: left.GetId()})
	for _, c := range []struct {
		name   string
		err    error
		reason string
	}{
		{"create", create, "CLUSTER_NOT_ACTIVE"},
		{"the same request again", again, "CLUSTER_NOT_ACTIVE"},
		{"a token for it", issue, "SESSION_FAILED"},
	} {
		reason, retry := wantRefusal(t, c.name, c.err, codes.FailedPrecondition)
		if reason != c.reason || retry {
			t.Errorf("%s: %s, try again: %v", c.name, reason, retry)
		}
		for _, part := range []string{left.GetReason(), "(it is unreachable: the cluster did not answer within", "close it and create a new one", "`sconce session close " + left.GetId() + "`"} {
			if !strings.Contains(c.err.Error(), part) {
				t.Errorf("%s: %q is not in %v", c.name, part, c.err)
			}
		}
	}

	a.engine.err = nil
	_, taken := a.CreateSession(ann, &sconcev1.CreateSessionRequest{Name: "a"})
	wantRefusal(t, "the name of a failed session", taken, codes.AlreadyExists)
	if !strings.Contains(taken.Error(), "a failed one keeps it until it is closed") {
		t.Errorf("the name of a failed session: %v", taken)
	}
	if _, err := a.CloseSession(ann, &sconcev1.CloseSessionRequest{SessionId: left.GetId()}); err != nil {
		t.Fatal(err)
	}
	if made, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{Name: "a"}); err != nil || made.GetSession().GetState() != sconcev1.Session_ACTIVE {
		t.Errorf("a new one: %v, %v", made, err)
	}
}

func TestNewRefuses(t *testing.T) {
	a := start(t)
	good := control.Config{Sessions: &sessions.Manager{}, Verifier: a.verifier, Endpoint: "h:1"}
	for name, change := range map[string]func(*control.Config){
		"sessions": func(c *control.Config) { c.Sessions = nil },
		"verifier": func(c *control.Config) { c.Verifier = nil },
		"endpoint": func(c *control.Config) { c.Endpoint = "h" },
	} {
		bad := good
		change(&bad)
		if _, err := control.New(bad); err == nil {
			t.Errorf("accepted without %s", name)
		}
	}
}

// What a session chose goes in and comes out, but for secrets; what it could not
// choose is refused by its field, and what the engine does not take by its name.
func TestOptions(t *testing.T) {
	a := start(t)
	ann := a.as(t, "ann", "acme", false)
	made, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{
		Name: "a", Catalog: "lake", Database: "shop.eu", Conf: map[string]string{"x": "1", "my.token": "hunter2"},
		MaxAge: durationpb.New(time.Hour), Labels: map[string]string{"team": "physics"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := made.GetSession()
	if s.GetCatalog() != "lake" || s.GetDatabase() != "shop.eu" || s.GetConf()["x"] != "1" || s.GetConf()["my.token"] != sessions.Redacted ||
		s.GetMaxAge().AsDuration() != time.Hour || s.GetLabels()["team"] != "physics" || s.GetRevision() != 2 ||
		!s.GetExpireTime().AsTime().Equal(s.GetCreateTime().AsTime().Add(time.Hour)) {
		t.Errorf("made %v", s)
	}
	list, err := a.ListSessions(ann, &sconcev1.ListSessionsRequest{Labels: map[string]string{"team": "arts"}})
	if err != nil || len(list.GetSessions()) != 0 {
		t.Errorf("listed %v, %v", list, err)
	}
	seen, err := a.DescribeSession(ann, &sconcev1.DescribeSessionRequest{SessionId: s.GetId()})
	if err != nil || seen.GetSession().GetOpenStreams() != 7 {
		t.Errorf("described %v, %v", seen, err)
	}
	issued, err := a.IssueSessionToken(ann, &sconcev1.IssueSessionTokenRequest{SessionId: s.GetId()})
	if err != nil || len(issued.GetSnippets()) != 4 || strings.Contains(fmt.Sprint(issued.GetSnippets()), issued.GetToken()) {
		t.Errorf("issued %v, %v", issued.GetSnippets(), err)
	}
	for name, r := range map[string]*sconcev1.CreateSessionRequest{
		"idle_timeout: is not a span": {IdleTimeout: durationpb.New(-time.Second)},
		"max_age: is not a span":      {MaxAge: durationpb.New(-time.Second)},
		"labels: key":                 {Labels: map[string]string{"a b": ""}},
	} {
		_, err := a.CreateSession(ann, r)
		wantRefusal(t, name, err, codes.InvalidArgument)
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a.engine.setup = &sessions.SetupError{Session: "s-1", Cluster: "c", What: `catalog "nope"`, Problem: "not found"}
	_, err = a.CreateSession(ann, &sconcev1.CreateSessionRequest{Catalog: "nope"})
	if reason, retry := wantRefusal(t, "a catalog", err, codes.FailedPrecondition); reason != "SETUP_REFUSED" || retry {
		t.Errorf("%s, try again: %v", reason, retry)
	}
	a.engine.setup = nil
	a.memory.Limit(1, 0)
	_, err = a.CreateSession(ann, &sconcev1.CreateSessionRequest{})
	if reason, retry := wantRefusal(t, "a second one", err, codes.ResourceExhausted); reason != "LIMIT_REACHED" || retry || !strings.Contains(err.Error(), "sessions_per_owner (1)") {
		t.Errorf("%s, try again: %v: %v", reason, retry, err)
	}
}

// The source of a call is what the router says of it.
func TestSourceIsAudited(t *testing.T) {
	a := start(t)
	ann := metadata.AppendToOutgoingContext(a.as(t, "ann", "acme", false), proxy.PeerHeader, "192.0.2.7:5000")
	if _, err := a.ListSessions(ann, &sconcev1.ListSessionsRequest{}); err != nil {
		t.Fatal(err)
	}
	if len(a.trail.entries) != 1 || a.trail.entries[0].Source != "192.0.2.7:5000" || a.trail.entries[0].RequestID == "" {
		t.Errorf("audited %+v", a.trail.entries)
	}
}

// trail keeps decisions.
type trail struct{ entries []sessions.AuditEntry }

func (t *trail) Add(e sessions.AuditEntry) { t.entries = append(t.entries, e) }
