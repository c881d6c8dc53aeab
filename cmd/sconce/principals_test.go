package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// scriptIssuers are the outside issuers of the scripts, by URL.
type scriptIssuers struct {
	t     *testing.T
	mu    sync.Mutex
	known map[string]*proxytest.OIDC
}

// start sets a variable to the URL of a new issuer: issuer VARIABLE.
func (s *scriptIssuers) start(ts *testscript.TestScript, _ bool, args []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := proxytest.StartOIDC(s.t, nil)
	s.known[o.URL] = o
	ts.Setenv(args[0], o.URL)
}

func (s *scriptIssuers) find(url string) *proxytest.OIDC {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[url]
}

// down makes an issuer answer no more: issuer-down URL.
func (s *scriptIssuers) down(_ *testscript.TestScript, _ bool, args []string) {
	s.find(args[0]).Down(true)
}

// token writes a token of an issuer: oidc-token URL FILE SUBJECT ORGANISATION [admin|expired].
func (s *scriptIssuers) token(ts *testscript.TestScript, _ bool, args []string) {
	var pairs []any
	switch strings.Join(args[4:], "") {
	case "admin":
		pairs = proxytest.Admin()
	case "expired":
		pairs = []any{"iat", 1, "exp", 2}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(s.find(args[0]).Token(args[2], args[3], pairs...)), 0o600))
}

// as has the commands that follow come with this credential.
func (s *served) as(credential string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "control.token"), []byte(credential), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// plan sends an ExecutePlan with this credential, and returns how it ended.
func (s *served) plan(credential, session string) error {
	s.t.Helper()
	caller := proxytest.NewCaller(s.t, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
	})
	ctx := proxytest.With(s.t.Context(), "authorization", "Bearer "+credential, "x-session-id", session)
	stream, err := caller.Stream(ctx, proxytest.SparkService+"ExecutePlan")
	if err != nil {
		return err
	}
	if err := stream.Send(proxytest.ExecutePlan("6f9619ff-8b86-4d01-b42d-00c04fc964ff", "mallory", "00112233-4455-4677-8899-aabbccddeeff", true, nil)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// The whole way with a token of an outside issuer, where the data path is for it:
// a session by the control API, and a query in it.
func TestServeTakesOIDCTokens(t *testing.T) {
	o := proxytest.StartOIDC(t, nil)
	s := startServeWith(t, ", oidc: [{issuer: \""+o.URL+"\", audience: sconce, data_plane: true, claims: {organisation: org}}]")
	ada := o.Token("ada", "physics")
	s.as(ada)
	s.command("session", "create", "--name", "lake")
	session := strings.Fields(s.command("session", "list"))[6]
	if err := s.plan(ada, session); err != nil {
		t.Errorf("the owner: %v", err)
	}
	for name, token := range map[string]string{"a colleague": o.Token("bob", "physics"), "of another organisation": o.Token("ada", "chemistry")} {
		if err := s.plan(token, session); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := o.Asked(); n != 1 {
		t.Errorf("the issuer was asked for its keys %d times", n)
	}
	if strings.Contains(s.log.String(), "eyJ") {
		t.Error("a token was logged")
	}
}
