package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// TestNeverRestart: on a cluster that starts no engine anew a session whose engine was
// killed has failed within 5 s, and for good. Clients read why and what to do, and so
// does who looks at it.
func TestNeverRestart(t *testing.T) {
	w := needs(t)
	cluster, config, dir := alone(t, w, "isolation: session, restart: never")
	one := w.gate.replica(t, config)
	s := one.sleepy(t, cluster, "--idle-timeout", awake.String())
	caller, spark := s.caller(t), newUUID()
	s.told(t, spark, "once")
	killEngine(t, dir, engineOf(t, w.redisAddress, s))
	within(t, 5*time.Second, "the session has failed", func() bool { return s.state(t) == "failed" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	why := s.described(t).Reason
	if !strings.HasPrefix(why, "its engine has ended: ") || !strings.Contains(why, "killed") {
		t.Errorf("it has failed, since %q", why)
	}
	says := fmt.Sprintf("session %s failed (%s): close it and create a new one, by `sconce session close %s`", s.ID, why, s.ID)
	refusal(t, caller.remembers(ctx, spark, "once"), codes.FailedPrecondition, "SESSION_FAILED", says)
	got := newest.run(t, w, job{URL: s.at(one.host()), Cases: []string{"select_one"}}, time.Minute)["select_one"]
	if !strings.Contains(string(got.Error), says) || got.Seconds > 20 {
		t.Errorf("after %.0f s the user of PySpark reads %s, want %s", got.Seconds, redact(shorten(got.steady())), says)
	}
	if sheet := s.sheet(t); !strings.Contains(sheet, why) || !strings.Contains(sheet, "close it and create a new one, by `sconce session close "+s.ID+"`") {
		t.Errorf("who looks at it reads\n%s", sheet)
	}
	if state := s.state(t); state != "failed" {
		t.Errorf("after the queries it is %s", state)
	}
	if left := below(t, dir); len(left) > 0 || one.launches(t) != 1 {
		t.Errorf("%d engines were started, and these processes are there: %v", one.launches(t), left)
	}
	s.close(t)
	if state := s.state(t); state != "closed" {
		t.Errorf("it was closed and is %s", state)
	}
}

// sheet is what people read who look at a session.
func (s *session) sheet(t *testing.T) string {
	t.Helper()
	token, err := s.gate.as(s.Owner)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.gate.run(token, "session", "describe", s.ID, "--ca", s.gate.ca, "--tls")
	if err != nil {
		t.Fatal(err)
	}
	return out
}
