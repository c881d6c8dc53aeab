package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestSharedIdle: of two sessions on one engine one falls idle. The engine stays for the
// other, which notices nothing; the idle one is back on it with all that it had, and
// when both are idle it is stopped.
func TestSharedIdle(t *testing.T) {
	w := needs(t)
	cluster, config, dir := alone(t, w, "isolation: shared")
	one, two := w.gate.replica(t, config), w.gate.replica(t, config)
	s, other := one.sleepy(t, cluster), one.sleepy(t, cluster, "--idle-timeout", "10s")
	address := engineOf(t, w.redisAddress, s)
	if also := engineOf(t, w.redisAddress, other); also != address {
		t.Fatalf("the engines are at %s and %s, and want one", address, also)
	}
	pid := mustPID(t, dir, address)
	spark := newUUID()
	s.told(t, spark, "of the first")
	busy := other.keepsOn(t, "of the other")
	within(t, time.Minute, "one is idle", func() bool { return s.state(t) == "idle" })
	within(t, time.Minute, "the idle one is off the engine", func() bool { return !isOn(t, w, cluster, s) })
	idle := s.described(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.through(two).caller(t).remembers(ctx, spark, "of the first"); err != nil {
		t.Errorf("after the wake: %v", err)
	}
	if now := engineOf(t, w.redisAddress, s); now != address || mustPID(t, dir, now) != pid || syscall.Kill(pid, 0) != nil {
		t.Errorf("it was on process %d at %s, and is at %s", pid, address, now)
	}
	if n, err := busy(); err != nil || n < 10 {
		t.Errorf("beside it the other was answered %d times: %v", n, err)
	}
	launches := fmt.Sprintf(`sconce_wake_stage_seconds_count{cluster=%q,stage="starting the engine"}`, cluster)
	if n := one.metric(t, launches) + two.metric(t, launches); n != 1 {
		t.Errorf("%v launches for two sessions and a wake", n)
	}
	// A session is in a new generation each time that it becomes active.
	if mine, its := s.described(t).Generation-idle.Generation, other.described(t).Generation; mine != 1 || its != 1 {
		t.Errorf("it was woken %d times, and the other is in generation %d, want 1 and 1", mine, its)
	}
	within(t, time.Minute, "both are idle", func() bool { return s.state(t) == "idle" && other.state(t) == "idle" })
	within(t, 30*time.Second, "their engine is stopped", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}

// told makes a view of this text.
func (s *session) told(t *testing.T, spark, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	view := request(spark, "ada").command("CREATE TEMPORARY VIEW e2e_told AS SELECT 'it was told " + text + "' AS s")
	if _, err := s.caller(t).call(ctx, "ExecutePlan", view); err != nil {
		t.Fatal(err)
	}
}

// remembers says what is wrong with the view that was told.
func (c *caller) remembers(ctx context.Context, spark, text string) error {
	got, err := c.call(ctx, "ExecutePlan", request(spark, "ada").query("SELECT s FROM e2e_told"))
	if err == nil && !bytes.Contains(got, []byte("it was told "+text)) {
		err = fmt.Errorf("its view has %d bytes of something else", len(got))
	}
	return err
}

// keepsOn has the session ask for its view again and again, until done is called, which
// says how often it was answered, and what was wrong.
func (s *session) keepsOn(t *testing.T, text string) (done func() (int, error)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	caller, spark := s.caller(t), newUUID()
	s.told(t, spark, text)
	answered := 0
	wrong := make(chan error, 1)
	go func() {
		wrong <- until(ctx, time.Hour, "", func() (bool, error) {
			err := caller.remembers(context.WithoutCancel(ctx), spark, text)
			answered++
			return false, err
		})
	}()
	return func() (int, error) {
		stop()
		err := <-wrong
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return answered, err
	}
}

// isOn says whether a session is on the engine that its cluster shares.
func isOn(t *testing.T, w *world, cluster string, s *session) bool {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: w.redisAddress})
	defer rdb.Close()
	on, err := rdb.HExists(t.Context(), "sconce:e:{cluster:"+cluster+"}:members", s.ID).Result()
	if err != nil {
		t.Fatal(err)
	}
	return on
}
