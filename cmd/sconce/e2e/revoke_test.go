package e2e

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// TestRevokeOnAnotherReplica: a token's stream runs on one replica, the token is
// revoked on another. Its stream ends and it opens nothing any more; another token
// of the same session goes on. The engine's session is the same for both.
func TestRevokeOnAnotherReplica(t *testing.T) {
	w := needs(t)
	r := w.gate.replica(t)
	lost := w.gate.open(t, "ada", w.sail.cluster).through(r)
	var known []struct {
		ID string `json:"token_id"`
	}
	lost.gate = w.gate
	w.gate.do(t, lost.Owner, &known, "token", "list", lost.ID, "--ca", w.gate.ca, "--tls")
	if len(known) != 1 {
		t.Fatalf("%d tokens are listed, want one", len(known))
	}
	kept := lost.through(r)
	kept.Token = lost.issue(t)
	lost = lost.through(r)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	spark := newUUID()
	endless := request(spark, "ada").query("SELECT sum(id % 7) FROM range(100000000000000)")
	stream, err := lost.caller(t).open(ctx, "ExecutePlan", endless.operation(newUUID()))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // it computes; there is nothing to wait for
	ended := make(chan error, 1)
	var last time.Time // written before ended is sent
	go func() {
		err := drain(stream)
		last = time.Now()
		ended <- err
	}()
	w.gate.do(t, lost.Owner, nil, "token", "revoke", lost.ID, known[0].ID, "--ca", w.gate.ca, "--tls")
	stalls, revoked := storetest.MeterStalls(t), time.Now()
	err = <-ended
	if took, stall := last.Sub(revoked), stalls.Longest(); took > closeLimit+stall {
		t.Errorf("the stream ended %v after the revocation, %v of which the machine stood still; want at most %v", took, stall, closeLimit)
	}
	refusal(t, err, codes.Unauthenticated, "TOKEN_REVOKED", "this token was revoked")
	for _, g := range []*gateway{r, w.gate} {
		_, err := lost.through(g).caller(t).call(ctx, "ExecutePlan", request(spark, "ada").query("SELECT 1"))
		refusal(t, err, codes.Unauthenticated, "TOKEN_REVOKED", "sconce token issue "+lost.ID)
		if _, err := kept.through(g).caller(t).call(ctx, "ExecutePlan", request(spark, "ada").query("SELECT 1")); err != nil {
			t.Errorf("the session's other token: %v", err)
		}
	}
	kept.gate = w.gate
	kept.close(t)
}
