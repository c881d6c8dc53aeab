package e2e

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// TestLongQueryKeepsItsSession: on Sail, too, a query that takes longer than the idle
// timeout keeps its session and the engine, although no row of it comes. A session
// beside it, which was used later and for no longer, is idle before.
func TestLongQueryKeepsItsSession(t *testing.T) {
	w := needs(t)
	cluster, config, dir := alone(t, w, "isolation: session")
	one := w.gate.replica(t, config)
	s := one.sleepy(t, cluster)
	pid := mustPID(t, dir, engineOf(t, w.redisAddress, s))
	ctx, giveUp := context.WithTimeout(t.Context(), 2*time.Minute)
	defer giveUp()
	stream, err := s.caller(t).open(ctx, "ExecutePlan", request(newUUID(), "ada").query("SELECT sum(id % 7) FROM range(100000000000000)"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- drain(stream) }()
	beside := one.sleepy(t, cluster)
	beside.fallsAsleep(t, engineOf(t, w.redisAddress, beside))
	select {
	case err := <-ended:
		t.Fatalf("the query was to run all the time: %v", err)
	default:
	}
	if now := s.described(t); now.State != "active" || now.Generation != 1 || syscall.Kill(pid, 0) != nil {
		t.Errorf("while its query runs the session is %+v", now)
	}
	giveUp()
	<-ended
	within(t, time.Minute, "it becomes idle", func() bool { return s.state(t) == "idle" })
	within(t, 30*time.Second, "its engine is stopped", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}
