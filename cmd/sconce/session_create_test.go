package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// slowService answers a create after that time.
type slowService struct {
	sconcev1.SessionServiceClient
	takes time.Duration
}

func (s slowService) CreateSession(ctx context.Context, _ *sconcev1.CreateSessionRequest, _ ...grpc.CallOption) (*sconcev1.CreateSessionResponse, error) {
	select {
	case <-time.After(s.takes):
		return &sconcev1.CreateSessionResponse{Session: &sconcev1.Session{Id: "s-1"}}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// Whoever waits for an engine reads what for, and whoever waited in vain that the
// session is made all the same, and where to look.
func TestCreateThatTakesLong(t *testing.T) {
	const note = "waiting for the cluster: an engine may take some minutes to start\n"
	for name, tc := range map[string]struct {
		takes             time.Duration
		session           string
		note, err, endsIn string
	}{
		"at once":       {takes: time.Second},
		"an engine":     {takes: 3 * time.Minute, note: note},
		"too long":      {takes: time.Hour, session: "my lake", note: note, err: "is still being made", endsIn: "`sconce session describe 'my lake'`"},
		"without names": {takes: time.Hour, note: note, err: "is still being made", endsIn: "`sconce session list`"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var errs bytes.Buffer
				a := &app{stderr: &errs}
				ctx, cancel := context.WithTimeout(t.Context(), engineTimeout)
				defer cancel()
				s, err := a.createSession(ctx, slowService{takes: tc.takes}, &sconcev1.CreateSessionRequest{Name: tc.session})
				if errs.String() != tc.note {
					t.Errorf("standard error has %q, want %q", errs.String(), tc.note)
				}
				if tc.err == "" {
					if err != nil || s.GetId() != "s-1" {
						t.Errorf("got %v, %v", s, err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.HasSuffix(err.Error(), tc.endsIn) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// A create has as long as an engine has to start, other calls have a minute; a gateway
// that does not answer in that time is named.
func TestTimeouts(t *testing.T) {
	for _, tc := range []struct{ command, want string }{
		{"session create", "5m0s"}, {"session describe", "1m0s"}, {"session list", "1m0s"}, {"token issue", "1m0s"}, {"cluster list", "1m0s"},
	} {
		cmd, _, err := (&app{}).rootCommand().Find(strings.Fields(tc.command))
		if err != nil {
			t.Fatal(err)
		}
		if got := cmd.Flags().Lookup("timeout").DefValue; got != tc.want {
			t.Errorf("%s: --timeout is %s, want %s", tc.command, got, tc.want)
		}
	}
	err := (&client{timeout: time.Minute}).explain("far:8085", status.FromContextError(context.DeadlineExceeded).Err())
	if want := "no answer from far:8085 within 1m0s: is the gateway running there? Name another with --endpoint, or wait longer with --timeout"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}
