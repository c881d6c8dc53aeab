package gateway_test

import (
	"bytes"
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/sessions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sparkID = "11111111-2222-4333-8444-555555555555"
	execute = proxytest.SparkService + "ExecutePlan"
)

func TestGatewayServes(t *testing.T) {
	g := gateway.Start(t, gateway.Config{})
	id := g.Session("alice", sessions.Active)
	for name, dial := range map[string]func(context.Context) (net.Conn, error){"plaintext": g.Dial, "tls": g.DialTLS} {
		t.Run(name, func(t *testing.T) {
			c := proxytest.NewCaller(t, dial)
			before := g.Spark.Calls("")
			plan := proxytest.ExecutePlan(sparkID, "mallory", "", false, bytes.Repeat([]byte("plan"), 50_000))
			got, err := c.Collect(proxytest.With(t.Context(), g.Credentials(id, "alice")...), execute, plan)
			if err != nil || len(got) != 4 {
				t.Fatalf("%d messages, %v", len(got), err)
			}
			call := g.Spark.Recorded("")[before]
			if user := proxytest.UserID(call.Messages()[0]); user != "alice" {
				t.Errorf("the engine saw user %q", user)
			}
			if !bytes.HasPrefix(call.Messages()[0], plan) {
				t.Error("the engine saw another plan")
			}
			if vs := call.Metadata.Get("authorization"); len(vs) != 1 || vs[0] != "Bearer "+gateway.Token {
				t.Errorf("the engine saw authorization %q", vs)
			}
			for _, secret := range []string{"x-session-id", "authentication"} {
				if vs := call.Metadata.Get(secret); len(vs) != 0 {
					t.Errorf("the engine saw %s %q", secret, vs)
				}
			}
		})
	}
}

// Closing a session ends its streams.
func TestGatewayCutsAClosedSession(t *testing.T) {
	g := gateway.Start(t, gateway.Config{})
	g.Spark.Script("", proxytest.Hang())
	id := g.Session("alice", sessions.Active)
	c := proxytest.NewCaller(t, g.Dial)
	s, err := c.Stream(proxytest.With(t.Context(), g.Credentials(id, "alice")...), execute)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(proxytest.ExecutePlan(sparkID, "", "", false, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	g.Move(id, sessions.Closed)
	if _, err := s.Rest(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the stream ended with %v", err)
	}
	if err := g.Spark.Recorded("")[0].Wait(t); status.Code(err) != codes.Canceled {
		t.Errorf("the engine's call ended with %v", err)
	}
	_, err = c.Collect(proxytest.With(t.Context(), g.Credentials(id, "alice")...), execute, proxytest.ExecutePlan(sparkID, "", "", false, nil))
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the next call: %v", err)
	}
}
