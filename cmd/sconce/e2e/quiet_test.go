package e2e

import (
	"context"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// TestQuiet lets a client rest for two of its own keepalive pings (PySpark 4.3:
// every 60 s, without a stream): its one connection lives on.
func TestQuiet(t *testing.T) {
	w := needs(t)
	t.Parallel()
	for _, p := range []python{py40, newest} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			way, err := newLink(w.gate.host())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(way.close)
			s := w.gate.open(t, "ada", w.sail.cluster)
			got := p.run(t, w, job{URL: s.at(way.addr()), Cases: []string{"select_one", "quiet", "sql"}}, 4*time.Minute)
			for _, name := range []string{"select_one", "quiet", "sql"} {
				if problem := got[name].failed(); problem != "" {
					t.Errorf("%s: %s", name, problem)
				}
			}
			if n := way.taken.Load(); n != 1 {
				t.Errorf("the client needed %d connections, want the one it began with", n)
			}
		})
	}
}

// TestRegistryAway stops Redis for some seconds: streams and sessions that this
// gateway knows go on, and one it does not know is told to wait, at once.
func TestRegistryAway(t *testing.T) {
	w := needs(t)
	hasty := w.gate.apart(t, frontBy("timeout: 200ms, dial_timeout: 200ms", w.redisAddress, w.sail)) // with the timeouts that are shipped
	known, unknown := w.gate.open(t, "ada", w.sail.cluster).through(hasty), w.gate.open(t, "ada", w.sail.cluster).through(hasty)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	spark, caller := newUUID(), known.caller(t)
	stream, err := caller.open(ctx, "ExecutePlan", request(spark, "ada").query(drainQuery))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := countRows(stream, 20)
	if err != nil {
		t.Fatal(err)
	}
	away(t, w.redis)
	if _, err := caller.call(ctx, "ExecutePlan", request(spark, "ada").query("SELECT 1")); err != nil {
		t.Errorf("a known session while Redis is away: %v", err)
	}
	stalls, begun := storetest.MeterStalls(t), time.Now()
	_, err = unknown.caller(t).call(ctx, "Config", request(newUUID(), "ada").message(3, wire(nil).message(7, nil)))
	took, stall := time.Since(begun), stalls.Longest()
	refusal(t, err, codes.Unavailable, "REGISTRY_UNAVAILABLE", "wait")
	if took > 2*time.Second+stall {
		t.Errorf("told after %v, of which the machine stood still for %v; want at once", took, stall)
	}
	if !hasRetryInfo(err) {
		t.Errorf("no RetryInfo beside UNAVAILABLE: %v", redact(err.Error()))
	}
	rest, err := countRows(stream, 0)
	if err != nil || rows+rest != drainRows {
		t.Errorf("%d rows while Redis is away, want %d: %v", rows+rest, drainRows, err)
	}
}

// away stops Redis until the test is over.
func away(t *testing.T, redis *child) {
	t.Helper()
	if err := redis.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := redis.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	})
}

func hasRetryInfo(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if _, ok := detail.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}
