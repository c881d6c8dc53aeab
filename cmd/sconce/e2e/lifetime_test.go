package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions/storetest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func dialEngine(t *testing.T, e *engine) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(e.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// expired is a token for the session whose time is over.
func (s *session) expired(t *testing.T) string {
	t.Helper()
	key, err := auth.LoadSigningKey(filepath.Join(s.gate.dir, "signing.pem"))
	if err != nil {
		t.Fatal(err)
	}
	past := func() time.Time { return time.Now().Add(-2 * time.Hour) }
	issuer, err := auth.NewIssuer(auth.IssuerConfig{Key: key, Issuer: "sconce", Now: past})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := issuer.Issue(auth.Grant{
		Kind: auth.KindSession, Subject: s.Owner, Org: "e2e", Session: s.ID, Lifetime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return remember(token)
}

// TestTokens: what does not open a session, and what is said about it.
func TestTokens(t *testing.T) {
	w := needs(t)
	mine, other := w.gate.open(t, "ada", "sail"), w.gate.open(t, "bob", "sail")
	gone := w.gate.open(t, "ada", "sail")
	gone.close(t)
	const nobody = "s-00000000000000000000000000"
	for _, c := range []struct {
		name, token, session string
		code                 codes.Code
		reason, says         string
	}{
		{"no token", "", mine.ID, codes.Unauthenticated, "TOKEN_MISSING", "sconce token issue"},
		{"not a token", "abc", mine.ID, codes.Unauthenticated, "TOKEN_INVALID", "sconce token issue"},
		{"expired", mine.expired(t), mine.ID, codes.Unauthenticated, "TOKEN_EXPIRED", "token expired 1 hour"},
		{"another's session", mine.Token, other.ID, codes.PermissionDenied, "SESSION_DENIED", "sconce token issue"},
		{"no such session", mine.Token, nobody, codes.PermissionDenied, "SESSION_DENIED", "sconce token issue"},
		{"no session named", mine.Token, "", codes.InvalidArgument, "SESSION_ID_MISSING", "x-session-id"},
		{"closed", gone.Token, gone.ID, codes.FailedPrecondition, "SESSION_CLOSED", "sconce session create"},
	} {
		t.Run(c.name, func(t *testing.T) {
			caller := &caller{conn: w.gate.dial(t, true), secret: c.token, session: c.session}
			_, err := caller.call(t.Context(), "ExecutePlan", request(newUUID(), "ada").query("SELECT 1"))
			refusal(t, err, c.code, c.reason, c.says)
		})
	}
	t.Run("a stranger can't tell whether a session exists", func(t *testing.T) {
		ask := func(session string) string {
			caller := &caller{conn: w.gate.dial(t, true), secret: mine.Token, session: session}
			_, err := caller.call(t.Context(), "Config", request(newUUID(), "ada"))
			return status.Convert(err).Proto().String()
		}
		if a, b := ask(other.ID), ask(nobody); a != b {
			t.Errorf("the answers differ:\n%s\n%s", a, b)
		}
	})
}

// refusal checks the code, the reason, the sentence, and that the details are of
// the form that no client chokes on.
func refusal(t *testing.T, err error, code codes.Code, reason, says string) {
	t.Helper()
	said := status.Convert(err)
	if what := newFinder(the.secrets()).in([]byte(said.String())); what != "" {
		t.Errorf("the refusal holds %s", what)
	}
	if said.Code() != code || !strings.Contains(said.Message(), says) {
		t.Errorf("answered %v %q, want %v with %q", said.Code(), redact(said.Message()), code, says)
	}
	for _, detail := range said.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			if info.Reason != reason || info.Domain != "sconce" || info.Metadata["classes"] == "" {
				t.Errorf("error info %v, want reason %s of domain sconce with classes", info, reason)
			}
			return
		}
	}
	t.Errorf("no ErrorInfo in %v", redact(said.String()))
}

// TestTokensInPySpark: the user reads the sentence, at once; a client that
// retries for ten minutes is a failure.
func TestTokensInPySpark(t *testing.T) {
	w := needs(t)
	for _, p := range []python{py35, newest} {
		t.Run(p.name, func(t *testing.T) {
			mine, other := w.gate.open(t, "ada", "sail"), w.gate.open(t, "bob", "sail")
			gone := w.gate.open(t, "ada", "sail")
			gone.close(t)
			expired, wrong := *mine, *mine
			expired.Token = mine.expired(t)
			wrong.ID = other.ID
			for _, c := range []struct {
				name, says string
				session    *session
			}{
				{"expired", "token expired 1 hour", &expired},
				{"another's session", "does not open the session", &wrong},
				{"closed", "a closed session never reopens", gone},
			} {
				got := p.run(t, w, job{URL: c.session.url("127.0.0.1"), Cases: []string{"select_one"}}, time.Minute)["select_one"]
				if !strings.Contains(string(got.Error), c.says) {
					t.Errorf("%s: %s, want an error with %q", c.name, redact(shorten(got.steady())), c.says)
				}
				if got.Seconds > 20 {
					t.Errorf("%s: told after %.0f s", c.name, got.Seconds)
				}
			}
		})
	}
}

// closeLimit is the promise: closing a session ends its open streams within 2 s.
const closeLimit = 2 * time.Second

// TestCloseEndsStreams closes a session by the command line while it computes,
// and while it sends rows.
func TestCloseEndsStreams(t *testing.T) {
	w := needs(t)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			t.Run("computing", func(t *testing.T) {
				testClose(t, w.gate.open(t, "ada", e.cluster), "SELECT sum(id % 7) FROM range(100000000000000)", 0)
			})
			t.Run("sending", func(t *testing.T) {
				testClose(t, w.gate.open(t, "ada", e.cluster), "SELECT id FROM range(0, 1000000000, 1, 20000)", 20)
			})
		})
	}
}

// testClose begins the query, waits for so many messages of the engine, closes.
func testClose(t *testing.T, s *session, query string, messages int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	spark, caller := newUUID(), s.caller(t)
	if _, err := caller.call(ctx, "ExecutePlan", request(spark, "ada").query("SELECT 1")); err != nil {
		t.Fatal(err)
	}
	stream, err := caller.open(ctx, "ExecutePlan", request(spark, "ada").query(query).operation(newUUID()))
	if err != nil {
		t.Fatal(err)
	}
	for range messages {
		var raw []byte
		if err := stream.RecvMsg(&raw); err != nil {
			t.Fatalf("the query itself: %v", err)
		}
	}
	ended := make(chan error, 1)
	var last time.Time // written before ended is sent
	go func() {
		err := drain(stream)
		last = time.Now()
		ended <- err
	}()
	if messages == 0 {
		time.Sleep(time.Second) // it computes; there is nothing to wait for
	}
	s.close(t)
	stalls, closed := storetest.MeterStalls(t), time.Now()
	err = <-ended
	stall := stalls.Longest()
	// Where the close falls into the middle of a message, grpc-go drops the status that follows.
	if messages == 0 || status.Code(err) != codes.Internal || status.Convert(err).Message() != "unexpected EOF" {
		refusal(t, err, codes.FailedPrecondition, "SESSION_CLOSED", "a closed session never reopens")
	}
	if took := last.Sub(closed); took > closeLimit+stall {
		t.Errorf("the stream ended %v after the close, %v of which the machine stood still; want at most %v", took, stall, closeLimit)
	}
	_, err = caller.call(ctx, "ExecutePlan", request(spark, "ada").query("SELECT 1"))
	refusal(t, err, codes.FailedPrecondition, "SESSION_CLOSED", "sconce session create")
}

// TestCloseInPySpark: the user of a running query reads why it ended, and soon.
func TestCloseInPySpark(t *testing.T) {
	w := needs(t)
	const soon, patience = 5 * time.Second, 2 * time.Minute
	for _, e := range []*engine{w.sail, w.spark} {
		for _, p := range []python{py35, newest} {
			for _, name := range []string{"endless_work", "endless_rows"} {
				t.Run(e.name+"/"+p.name+"/"+name, func(t *testing.T) {
					if name != "endless_work" { // whose time is judged: clients beside it would take their part of that
						t.Parallel()
					}
					s := w.gate.open(t, "ada", e.cluster)
					scratch, closed := t.TempDir(), make(chan time.Time, 1)
					go func() {
						defer close(closed)
						if !appears(t.Context(), filepath.Join(scratch, "begun"), patience) {
							return
						}
						time.Sleep(time.Second) // the first row is not the last, and work has begun
						if err := s.gate.ask(s.Owner, nil, "session", "close", s.ID, "--ca", s.gate.ca, "--tls"); err != nil {
							t.Error(err)
							return
						}
						closed <- time.Now()
					}()
					got := p.run(t, w, job{URL: s.url("127.0.0.1"), Cases: []string{name}, Scratch: scratch}, patience)[name]
					var seen struct {
						Rows  int
						Said  string
						Ended float64
					}
					if err := json.Unmarshal(got.Result, &seen); err != nil {
						t.Fatalf("%v: %s", err, redact(shorten(got.steady())))
					}
					if !strings.Contains(seen.Said, "a closed session never reopens") {
						t.Errorf("the user reads %q, want why it ended", redact(shorten(seen.Said)))
					}
					if name == "endless_rows" && seen.Rows == 0 {
						t.Errorf("no rows before the close: it proves nothing")
					}
					at, ok := <-closed
					if !ok {
						t.Fatal("the query did not begin: nothing was closed")
					}
					late := time.UnixMilli(int64(seen.Ended * 1000)).Sub(at)
					// Rows that PySpark already has are handed out first, however long that takes.
					if late > soon && name == "endless_work" {
						t.Errorf("PySpark told it %v after the close, want at most %v", late, soon)
					}
				})
			}
		}
	}
}

// appears waits for a file.
func appears(ctx context.Context, name string, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := os.Stat(name); err == nil {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

func drain(stream grpc.ClientStream) error {
	for {
		var raw []byte
		if err := stream.RecvMsg(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
