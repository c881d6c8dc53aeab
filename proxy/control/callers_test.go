package control_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/auth"
	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/control"
	"github.com/sconce-dev/sconce/sessions"
)

// countedKeys counts what is asked of the registry.
type countedKeys struct {
	control.Keys
	asked atomic.Int64
}

func (k *countedKeys) Authenticate(ctx context.Context, key string) (sessions.Actor, error) {
	k.asked.Add(1)
	return k.Keys.Authenticate(ctx, key)
}

// bounded is the service with so many calls a second and its clock at a stand.
func (a *api) bounded(t *testing.T, requests int) (*control.Service, *countedKeys) {
	t.Helper()
	cfg, still := a.service.Config, time.Now()
	keys := &countedKeys{Keys: cfg.Keys}
	cfg.Keys, cfg.Callers = keys, proxy.NewCallers(requests, func() time.Time { return still })
	return need(control.New(cfg))(t), keys
}

// refusal is the reason of an error, and when to come again.
func refusal(err error) (reason string, wait time.Duration) {
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.RetryInfo:
			wait = d.GetRetryDelay().AsDuration()
		}
	}
	return reason, wait
}

// An owner who calls without end, by whatever credential and in whatever dress, is told
// by which limit and when to come again; the audit trail has what was done and no more,
// and others are served.
func TestOwnerAtTheLimitOfCalls(t *testing.T) {
	a := start(t)
	made, err := a.keys.CreateKey(a.as(t, "root", "acme", true), &sconcev1.CreateKeyRequest{Subject: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	before := len(a.trail.entries)
	service, keys := a.bounded(t, 2)
	conn := sconcev1.NewSessionServiceClient(serve(t, service))
	passed, ways := 0, []context.Context{a.as(t, "ann", "acme", false), bearer(t, made.GetSecret())}
	for i := range 200 {
		_, err := conn.ListSessions(ways[i%2], &sconcev1.ListSessionsRequest{})
		if err == nil {
			passed++
			continue
		}
		reason, wait := refusal(err)
		if reason != "RATE_LIMITED" || wait != 500*time.Millisecond || !strings.Contains(err.Error(), "limits.control_requests") {
			t.Fatalf("%s, after %s: %v", reason, wait, err)
		}
	}
	if done := len(a.trail.entries) - before; passed != 20 || done != 20 || keys.asked.Load() > 21 {
		t.Errorf("%d calls passed, %d are in the trail, the registry was asked for %d keys", passed, done, keys.asked.Load())
	}
	if _, err := conn.ListSessions(a.as(t, "bob", "acme", false), &sconcev1.ListSessionsRequest{}); err != nil {
		t.Errorf("another owner: %v", err)
	}
	req, w := httptest.NewRequest("GET", "/v1/sessions", nil), httptest.NewRecorder()
	req.Header.Set("Authorization", "Bearer "+a.control(t, "ann", "acme", false))
	need(control.NewJSON(service))(t).ServeHTTP(w, req)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" {
		t.Errorf("by JSON: %d %v %s", w.Code, w.Header(), w.Body)
	}
}

// A stranger with keys that are well formed and made up: few are looked up, and who has
// a good one at the same address notices nothing.
func TestMadeUpKeysCostFewReads(t *testing.T) {
	a := start(t)
	made, err := a.keys.CreateKey(a.as(t, "root", "acme", true), &sconcev1.CreateKeyRequest{Subject: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	service, keys := a.bounded(t, 0)
	call := func(key, from string) error {
		md := metadata.Pairs("authorization", "Bearer "+key, proxy.PeerHeader, from)
		_, err := service.ListSessions(metadata.NewIncomingContext(t.Context(), md), &sconcev1.ListSessionsRequest{})
		return err
	}
	if err := call(made.GetSecret(), "198.51.100.7:1"); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		reason, _ := refusal(call(need4(auth.NewAPIKey(rand.Reader)), "198.51.100.7:2"))
		if want := map[bool]string{true: "CONTROL_TOKEN_INVALID", false: "KEYS_THROTTLED"}[i <= 20]; reason != want {
			t.Fatalf("key %d: %s, want %s", i, reason, want)
		}
	}
	if n := keys.asked.Load(); n > 22 {
		t.Errorf("the registry was asked for %d keys", n)
	}
	if err := call(made.GetSecret(), "198.51.100.7:3"); err != nil {
		t.Errorf("a good key at the same address: %v", err)
	}
	if reason, _ := refusal(call(need4(auth.NewAPIKey(rand.Reader)), "203.0.113.9:1")); reason != "CONTROL_TOKEN_INVALID" {
		t.Errorf("one made up, from elsewhere: %s", reason)
	}
}
