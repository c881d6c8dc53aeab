package e2e

import (
	"bytes"
	"context"
	"encoding/json"
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
	rdb := redis.NewClient(&redis.Options{Addr: registry})
	defer rdb.Close()
	text, err := rdb.HGet(context.Background(), "sconce:s:{"+s.ID+"}", "engine").Result()
	if err != nil {
		t.Fatal(err)
	}
	address := engineAddress(text)
	if address == "" {
		t.Fatalf("no engine in %q", text)
	}
	return address
}

// engineAddress reads it from the field of a session's record.
func engineAddress(text string) string {
	var in struct{ Address string }
	_ = json.Unmarshal([]byte(text), &in) // "" = none
	return in.Address
}

func (s *session) state(t *testing.T) string {
	t.Helper()
	var seen struct{ State string }
	s.gate.do(t, s.Owner, &seen, "session", "describe", s.ID, "--ca", s.gate.ca, "--tls")
	return seen.State
}

// fallsAsleep waits until the session is idle and its engine is gone.
func (s *session) fallsAsleep(t *testing.T, address string) {
	t.Helper()
	within(t, time.Minute, "the session becomes idle", func() bool { return s.state(t) == "idle" })
	within(t, 30*time.Second, "its engine is stopped", func() bool { return !listens(address) })
}

func listens(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func within(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for late := time.Now().Add(limit); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("within %v: not so: %s", limit, what)
		}
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

// TestWhatIsLostIsSaidOnce: what could not be brought onto the new engine ends one query
// of the client with a list of it. The same SparkSession goes on after that, with the
// rest, and `sconce session describe` keeps saying it.
func TestWhatIsLostIsSaidOnce(t *testing.T) {
	w := needs(t)
	config, dir := own(t, w)
	one, two := w.gate.replica(t, config), w.gate.replica(t, config)
	for _, tc := range []struct {
		cluster, lost string
		p             python
		lacks         int
	}{
		{"own-sail-session", "lost_sail", py40, 1}, {"own-sail-session", "lost_sail", newest, 1},
		{"own-spark-session", "lost_spark", newest, 2},
	} {
		t.Run(tc.cluster+"/"+tc.p.name, func(t *testing.T) {
			s := one.sleepy(t, tc.cluster)
			through(t, w, dir, s, two, func(url, scratch string) line {
				return tc.p.run(t, w, job{URL: url, Cases: []string{tc.lost}, Scratch: scratch}, 6*time.Minute)[tc.lost]
			})
			var seen struct{ Lost []string }
			s.gate.do(t, s.Owner, &seen, "session", "describe", s.ID, "--ca", s.gate.ca, "--tls")
			if len(seen.Lost) != tc.lacks || !strings.Contains(strings.Join(seen.Lost, "\n"), "e2e_lost") {
				t.Errorf("it is described to have lost %q", seen.Lost)
			}
		})
	}
}

// through runs a client that says in its folder when it is ready. Then its session
// falls asleep, its connection is cut, and it goes on by way of another replica.
func through(t *testing.T, w *world, dir string, s *session, other *gateway, run func(url, scratch string) line) {
	t.Helper()
	balancer, err := newLink(s.gate.host())
	if err != nil {
		t.Fatal(err)
	}
	defer balancer.close()
	scratch := t.TempDir()
	first := engineOf(t, w.redisAddress, s)
	pid := pidAt(t, dir, first)
	go func() {
		if !appears(t.Context(), filepath.Join(scratch, "ready"), 2*time.Minute) {
			return
		}
		s.fallsAsleep(t, first)
		within(t, 30*time.Second, "its engine's process is gone", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
		balancer.turn(other.host())
		balancer.sever()
		_ = os.WriteFile(filepath.Join(scratch, "asleep"), nil, 0o600)
	}()
	if problem := run(s.at(balancer.addr()), scratch).failed(); problem != "" {
		t.Errorf("after the wake: %s", problem)
	}
	if second := engineOf(t, w.redisAddress, s); second == first {
		t.Error("it is still on its first engine: nothing was woken")
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
	if err := syscall.Kill(pidAt(t, dir, address), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func pidAt(t *testing.T, dir, address string) int {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(dir, "engines", "*", "*", "engine.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range records {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), strconv.Quote(address)) {
			continue
		}
		return pidIn(t, filepath.Dir(path))
	}
	t.Fatalf("no record of an engine at %s", address)
	return 0
}
