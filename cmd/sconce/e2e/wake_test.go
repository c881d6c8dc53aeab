package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// idleAfter is the idle timeout of the sessions here: long enough for a client on
// a busy machine to think between two requests.
const idleAfter = 4 * time.Second

// lake makes each engine begin with a second catalog of that name.
var lake = map[string]string{
	"sail": `env: ['SAIL_CATALOG__DEFAULT_CATALOG=sail', 'SAIL_CATALOG__LIST=[` +
		`{name="sail", type="memory", initial_database=["default"]}, {name="lake", type="memory", initial_database=["shop"]}]']`,
	"spark": `conf: ["spark.sql.catalog.lake=org.apache.spark.sql.execution.datasources.v2.jdbc.JDBCTableCatalog", ` +
		`"spark.sql.catalog.lake.url=jdbc:derby:memory:lake;create=true", "spark.sql.catalog.lake.driver=org.apache.derby.iapi.jdbc.AutoloadedDriver"]`,
}

// own is the clusters that a replica starts itself, in a state folder that all
// replicas of this test share.
func own(t *testing.T, w *world) (config, dir string) {
	t.Helper()
	var text strings.Builder
	for _, preset := range []string{"sail", "spark"} {
		for _, isolation := range []string{"session", "shared"} {
			fmt.Fprintf(&text, "  - name: own-%s-%s\n    launch: {preset: %s, python: %q, %s}\n    isolation: %s\n    min_idle_timeout: 2s\n",
				preset, isolation, preset, filepath.Join(w.cache, "venv", preset, "bin", "python"), lake[preset], isolation)
		}
	}
	dir = filepath.Join(t.TempDir(), "state")
	fmt.Fprintf(&text, "registry_grace: 1s\nstate_dir: %q\n", dir)
	return text.String(), dir
}

// alone is a cluster on Sail of which no other test knows, with these settings, in a
// state folder of its own.
func alone(t *testing.T, w *world, settings string) (cluster, config, dir string) {
	t.Helper()
	cluster, dir = "alone-"+newUUID()[:8], filepath.Join(t.TempDir(), "state")
	config = fmt.Sprintf("  - {name: %s, launch: {preset: sail, python: %q, orphan_after: 5s, %s}, min_idle_timeout: 2s, %s}\nregistry_grace: 1s\nstate_dir: %q\n",
		cluster, filepath.Join(w.cache, "venv", "sail", "bin", "python"), lake["sail"], settings, dir)
	return cluster, config, dir
}

// sleepy makes a session that becomes idle after idleAfter.
func (g *gateway) sleepy(t *testing.T, cluster string, more ...string) *session {
	t.Helper()
	var made struct{ ID string }
	g.do(t, "ada", &made, append([]string{
		"session", "create", "--cluster", cluster, "--idle-timeout", idleAfter.String(), "--ca", g.ca, "--tls",
	}, more...)...)
	s := &session{gate: g, ID: made.ID, Owner: "ada"}
	s.Token = s.issue(t)
	t.Cleanup(func() { s.close(t) })
	return s
}

// engineOf is the address of a session's engine, as the registry has it.
func engineOf(t *testing.T, registry string, s *session) string {
	t.Helper()
	address, err := s.engine(t.Context(), registry)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// engine is engineOf for goroutines that are not the test's.
func (s *session) engine(ctx context.Context, registry string) (string, error) {
	rdb := redis.NewClient(&redis.Options{Addr: registry})
	defer rdb.Close()
	text, err := rdb.HGet(ctx, "sconce:s:{"+s.ID+"}", "engine").Result()
	if err != nil {
		return "", err
	}
	address := engineAddress(text)
	if address == "" {
		err = fmt.Errorf("session %s has no engine", s.ID)
	}
	return address, err
}

// engineAddress reads it from the field of a session's record.
func engineAddress(text string) string {
	var in struct{ Address string }
	_ = json.Unmarshal([]byte(text), &in) // "" = none
	return in.Address
}

// description is what `sconce session describe` says of a session.
type description struct {
	State, Reason string
	Generation    uint64
	Lost          []string
}

func (s *session) look() (now description, err error) {
	return now, s.gate.ask(s.Owner, &now, "session", "describe", s.ID, "--ca", s.gate.ca, "--tls")
}

func (s *session) described(t *testing.T) description {
	t.Helper()
	now, err := s.look()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func (s *session) state(t *testing.T) string {
	t.Helper()
	return s.described(t).State
}

// becomes waits until the session is in that state.
func (s *session) becomes(ctx context.Context, state string) error {
	return until(ctx, time.Minute, "the session is "+state, func() (bool, error) {
		now, err := s.look()
		return now.State == state, err
	})
}

// fallsAsleep waits until the session is idle and its engine is gone.
func (s *session) fallsAsleep(t *testing.T, address string) {
	t.Helper()
	if err := s.sleeps(t.Context(), address); err != nil {
		t.Fatal(err)
	}
}

// sleeps is fallsAsleep for goroutines that are not the test's.
func (s *session) sleeps(ctx context.Context, address string) error {
	if err := s.becomes(ctx, "idle"); err != nil {
		return err
	}
	return until(ctx, 30*time.Second, "its engine is stopped", func() (bool, error) { return !listens(address), nil })
}

func listens(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// within waits until it is so. While the machine stands still the limit does, too.
func within(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	stalls, begun := storetest.MeterStalls(t), time.Now()
	for !done() {
		if stall := stalls.Longest(); time.Since(begun) > limit+stall {
			t.Fatalf("within %v, and %v for which the machine stood still: not so: %s", limit, stall, what)
		}
		_ = nap(context.Background())
	}
}

// until is within for goroutines that are not the test's.
func until(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	for late := time.Now().Add(limit); ; {
		switch yes, err := done(); {
		case yes || err != nil:
			return err
		case time.Now().After(late):
			return fmt.Errorf("within %v: not so: %s", limit, what)
		}
		if err := nap(ctx); err != nil {
			return err
		}
	}
}

// nap is the pause between two looks.
func nap(ctx context.Context) error {
	select {
	case <-time.After(200 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestWake: the same SparkSession object of an unmodified client goes on with all
// that it had made, on another engine, by way of another replica.
func TestWake(t *testing.T) {
	w := needs(t)
	config, dir := own(t, w)
	one, two := w.gate.replica(t, config), w.gate.replica(t, config)
	for _, tc := range []struct{ cluster, wake string }{
		{"own-sail-session", "wake_sail"}, {"own-sail-shared", "wake_sail"}, {"own-spark-session", "wake_spark"}, {"own-spark-shared", "wake_spark"},
	} {
		for _, p := range []python{py40, newest} {
			t.Run(tc.cluster+"/"+p.name, func(t *testing.T) {
				through(t, w, dir, one.sleepy(t, tc.cluster, "--catalog", "lake"), two, func(url, scratch string) line {
					order := job{URL: url, Other: url, Cases: []string{tc.wake}, Scratch: scratch}
					return p.run(t, w, order, 6*time.Minute)[tc.wake]
				})
			})
		}
	}
	store := trustStore(t, w)
	for _, cluster := range []string{"own-sail-session", "own-spark-session"} {
		t.Run(cluster+"/JVM", func(t *testing.T) {
			through(t, w, dir, one.sleepy(t, cluster), two, func(url, scratch string) line {
				return runJVMWith(t, w, store, url, 6*time.Minute, "-Dwake="+scratch)["wake"]
			})
		})
	}
}

// through runs a client that says in its folder when it is ready. Then its session
// falls asleep, its connection is cut, and it goes on by way of another replica.
func through(t *testing.T, w *world, dir string, s *session, other *gateway, run func(url, scratch string) line) {
	t.Helper()
	var first string
	s.pauses(t, other, func(ctx context.Context) (err error) {
		if first, err = s.engine(ctx, w.redisAddress); err != nil {
			return err
		}
		pid, err := pidAt(dir, first)
		if err != nil {
			return err
		}
		if err := s.sleeps(ctx, first); err != nil {
			return err
		}
		return until(ctx, 30*time.Second, "its engine's process is gone", func() (bool, error) { return syscall.Kill(pid, 0) == syscall.ESRCH, nil })
	}, run)
	if second := engineOf(t, w.redisAddress, s); second == first {
		t.Error("it is still on its first engine: nothing was woken")
	}
}

// seen is how long an idle client gets to see that its connection is gone.
const seen = 3 * time.Second

// pauses runs a client of the session. When that says in its folder that it is ready,
// meanwhile is done, which is not in the test's goroutine; then the client's connection
// is cut, and it goes on by way of another replica.
func (s *session) pauses(t *testing.T, other *gateway, meanwhile func(context.Context) error, run func(url, scratch string) line) {
	t.Helper()
	balancer, err := newLink(s.gate.host())
	if err != nil {
		t.Fatal(err)
	}
	defer balancer.close()
	scratch := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- func() error {
			if !appears(ctx, filepath.Join(scratch, "ready"), 2*time.Minute) {
				return errors.New("the client did not say that it is ready")
			}
			if err := meanwhile(ctx); err != nil {
				return err
			}
			balancer.turn(other.host())
			balancer.sever()
			// A client that uses its connection before it has seen that it is gone may fail
			// (docs/clients.md, the JVM's), and this is not about that.
			select {
			case <-time.After(seen):
			case <-ctx.Done():
			}
			return os.WriteFile(filepath.Join(scratch, "asleep"), nil, 0o600)
		}()
	}()
	problem := run(s.at(balancer.addr()), scratch).failed()
	stop() // the client has ended: it waits for nothing more
	if err := <-over; err != nil {
		t.Errorf("while the client waited: %v", err)
	}
	if problem != "" {
		t.Errorf("after the wake: %s", problem)
	}
}

// TestManyWakeOnce: fifty clients at once, on two replicas, wake an idle session
// with one launch.
func TestManyWakeOnce(t *testing.T) {
	w := needs(t)
	config, _ := own(t, w)
	one, two := w.gate.replica(t, config), w.gate.replica(t, config)
	s := one.sleepy(t, "own-sail-session")
	s.fallsAsleep(t, engineOf(t, w.redisAddress, s))
	launched := one.launches(t) + two.launches(t)
	// Each replica tells of the wakes that took place there; one of them launched.
	const stages = `sconce_wake_stage_seconds_count{cluster="own-sail-session",stage="starting the engine"}`
	const wakes = `sconce_wake_seconds_count{cluster="own-sail-session",outcome="done"`
	sum := func(name string) float64 { return one.metric(t, name) + two.metric(t, name) }
	staged, woken := sum(stages), sum(wakes)
	var wg sync.WaitGroup
	for _, g := range []*gateway{one, two} {
		here := *s
		here.gate = g
		for range 25 {
			caller := here.caller(t)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := caller.call(ctx, "ExecutePlan", request(newUUID(), "ada").query("SELECT 1")); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if n := one.launches(t) + two.launches(t) - launched; n != 1 {
		t.Errorf("%d launches", n)
	}
	if n, m := sum(stages)-staged, sum(wakes)-woken; n != 1 || m < 1 || m > 2 {
		t.Errorf("the metrics tell of %v launches and %v wakes", n, m)
	}
}

// launches is how many engines the gateway began to start.
func (g *gateway) launches(t *testing.T) int {
	t.Helper()
	return strings.Count(content(t, g.child.log), `"stage":"starting the engine"`)
}

// TestBusyIsNotIdle: neither while a query runs, nor while a client may come back
// for one.
func TestBusyIsNotIdle(t *testing.T) {
	w := needs(t)
	config, _ := own(t, w)
	one := w.gate.replica(t, config)
	s := one.sleepy(t, "own-spark-session")
	caller, spark := s.caller(t), newUUID()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := caller.call(ctx, "ExecutePlan", request(spark, "ada").query("SELECT 1")); err != nil {
		t.Fatal(err)
	}
	operation := newUUID()
	some, leave := context.WithCancel(ctx)
	stream, err := caller.open(some, "ExecutePlan", request(spark, "ada").
		query("SELECT count(*) FROM range(0, 4, 1, 4) WHERE java_method('java.lang.Thread', 'sleep', 5000L) IS NULL").operation(operation))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(idleAfter + 3*time.Second)
	if state := s.state(t); state != "active" {
		t.Errorf("while a query runs the session is %s", state)
	}
	leave() // the client's connection is gone; its operation goes on
	_ = drain(stream)
	time.Sleep(2 * idleAfter)
	if state := s.state(t); state != "active" {
		t.Errorf("while a client may come back for its query the session is %s", state)
	}
	if _, err := caller.call(ctx, "ReattachExecute", request(spark, "ada").text(3, operation)); err != nil {
		t.Errorf("coming back: %v", err)
	}
	if _, err := caller.call(ctx, "ReleaseExecute", request(spark, "ada").text(3, operation).message(5, nil)); err != nil {
		t.Errorf("release: %v", err)
	}
	within(t, time.Minute, "it becomes idle", func() bool { return s.state(t) == "idle" })
}

// TestEngineDies: the session has failed within 5 s, and its next query wakes it.
func TestEngineDies(t *testing.T) {
	w := needs(t)
	config, dir := own(t, w)
	one := w.gate.replica(t, config)
	for _, cluster := range []string{"own-sail-session", "own-spark-session"} {
		t.Run(cluster, func(t *testing.T) {
			s := one.sleepy(t, cluster)
			caller, spark := s.caller(t), newUUID()
			do := func(r wire) []byte {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				got, err := caller.call(ctx, "ExecutePlan", r)
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
			do(request(spark, "ada").command("CREATE TEMPORARY VIEW e2e_told AS SELECT 'it was told' AS s"))
			killEngine(t, dir, engineOf(t, w.redisAddress, s))
			within(t, 5*time.Second, "the session has failed", func() bool { return s.state(t) == "failed" })
			s.Token = s.issue(t) // the one before may be over by now
			if got := do(request(spark, "ada").query("SELECT s FROM e2e_told")); !bytes.Contains(got, []byte("it was told")) {
				t.Errorf("after the wake the view has %d bytes of something else", len(got))
			}
		})
	}
}

// TestCannotStart: the owner reads why, with what the engine said.
func TestCannotStart(t *testing.T) {
	w := needs(t)
	config, _ := own(t, w)
	one := w.gate.replica(t, "  - name: broken\n    launch: {command: [/bin/sh, -c, 'echo no licence for port {port}; exit 3']}\n", config)
	token, err := one.as("ada")
	if err != nil {
		t.Fatal(err)
	}
	_, err = one.run(token, "session", "create", "--cluster", "broken", "--ca", one.ca, "--tls")
	if err == nil || !strings.Contains(err.Error(), "broken") || !strings.Contains(err.Error(), "no licence") {
		t.Errorf("create says %v", err)
	}
}

// killEngine kills the engine at that address, whose state is below dir.
func killEngine(t *testing.T, dir, address string) {
	t.Helper()
	if err := syscall.Kill(mustPID(t, dir, address), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func mustPID(t *testing.T, dir, address string) int {
	t.Helper()
	pid, err := pidAt(dir, address)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// pidAt is the process of the engine at that address.
func pidAt(dir, address string) (int, error) {
	records, err := filepath.Glob(filepath.Join(dir, "engines", "*", "*", "engine.json"))
	if err != nil {
		return 0, err
	}
	for _, path := range records {
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), strconv.Quote(address)) {
			return pidIn(filepath.Dir(path))
		}
	}
	return 0, fmt.Errorf("no record of an engine at %s", address)
}
