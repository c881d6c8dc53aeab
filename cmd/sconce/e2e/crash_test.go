package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
)

// crashes are the points at which a Sconce is killed, by what it is doing then.
// Where the session was "closed" it stays so.
var crashes = []struct {
	doing  string
	points []string
}{
	{"create", []string{"create.recorded", "launch.begun", "wake.put"}},
	{"wake", []string{"wake.leased", "launch.recorded", "launch.kept", "wake.launched", "wake.put", "wake.restored", "wake.scheduled", "wake.active"}},
	{"idle", []string{"idle.recorded", "engine.left"}},
	{"close", []string{"close.recorded", "close.released", "engine.left"}},
	{"die", []string{"ended.marked", "ended.dropped"}},
}

// awake is an idle timeout that no test sees the end of.
const awake = time.Hour

// tidied is how long after a restart a crash may be seen.
const tidied = time.Minute

// TestKilledAnywhere: Sconce is killed at each step of a session's life, and started
// again: no engine is left without a record, no session active without an engine,
// and none that was closed is open again.
func TestKilledAnywhere(t *testing.T) {
	w := needs(t)
	binary := deadly(t)
	for _, c := range crashes {
		for _, point := range c.points {
			t.Run(c.doing+"/"+point, func(t *testing.T) {
				t.Parallel()
				testKilled(t, w, binary, c.doing, point)
			})
		}
	}
}

// deadly is a Sconce with fail points.
func deadly(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sconce")
	build := exec.Command("go", "build", "-tags", "failpoints", "-o", binary, "github.com/sconce-dev/sconce/cmd/sconce")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build sconce: %v\n%s", err, out)
	}
	return binary
}

// crash is one machine on which Sconces die.
type crash struct {
	w            *world
	config       string
	dir, cluster string
}

// machine has one cluster of its own, of which no other Sconce knows.
func machine(t *testing.T, w *world) *crash {
	t.Helper()
	c := &crash{w: w, cluster: "crash-" + newUUID()[:8]}
	c.dir = filepath.Join(t.TempDir(), "state")
	c.config = fmt.Sprintf("  - name: %s\n    launch: {preset: sail, python: %q}\n    isolation: session\n    min_idle_timeout: 2s\nregistry_grace: 1s\nstate_dir: %q\n",
		c.cluster, filepath.Join(w.cache, "venv", "sail", "bin", "python"), c.dir)
	return c
}

// sconce starts one on the machine, which dies at that point; "" = it does not.
func (c *crash) sconce(t *testing.T, binary, point string) *gateway {
	t.Helper()
	g := c.w.gate
	name := "crash-" + newUUID()[:8]
	r := &gateway{
		name: name, dir: g.dir, binary: binary, control: map[string]string{}, ca: g.ca,
		config: filepath.Join(g.dir, name+".yaml"), env: []string{"SCONCE_FAILPOINT=" + point},
	}
	err := r.serve(g.front + c.config)
	if r.child != nil {
		t.Cleanup(func() { r.child.end(20 * time.Second) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// query asks through the port.
func (s *session) query(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	_, err := s.caller(t).call(ctx, "ExecutePlan", request(newUUID(), "ada").query("SELECT 1"))
	return err
}

// running are the engines of the machine that have a process, by their ids.
func (c *crash) running(t *testing.T) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for _, link := range below(t, c.dir) {
		to, err := filepath.EvalSymlinks(link)
		if err != nil {
			continue // it has ended
		}
		for _, part := range strings.Split(to, "/") {
			if strings.HasPrefix(part, c.cluster+"-") {
				ids[part] = true
			}
		}
	}
	return ids
}

// wrong says what may not be so of a session and the machine's engines; nil = nothing.
func (c *crash) wrong(t *testing.T, id string, closed bool) error {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: c.w.redisAddress})
	defer rdb.Close()
	record, err := rdb.HGetAll(t.Context(), "sconce:s:{"+id+"}").Result()
	if err != nil {
		t.Fatal(err)
	}
	known, err := rdb.HGet(t.Context(), "sconce:e:{session:"+id+"}", "id").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	running := c.running(t)
	for engine := range running {
		if engine != known {
			return fmt.Errorf("engine %s runs without a record", engine)
		}
	}
	switch state := record["state"]; {
	case closed && state != "closed":
		t.Fatalf("the session was closed and is %s", state)
	case closed && len(running) > 0:
		return errors.New("the session is closed and its engine runs")
	case state == "active" && !running[known]:
		return errors.New("the session is active and has no engine")
	}
	return nil
}

func testKilled(t *testing.T, w *world, binary, doing, point string) {
	c := machine(t, w)
	s := &session{Owner: "ada"}
	var first *gateway
	if doing != "create" {
		first = c.sconce(t, binary, "")
		idle := idleAfter
		if doing == "close" || doing == "die" {
			idle = awake
		}
		s = first.resting(t, c.cluster, idle)
		if doing == "wake" {
			s.fallsAsleep(t, engineOf(t, w.redisAddress, s))
		}
		first.child.end(20 * time.Second)
	}
	victim := c.sconce(t, binary, point)
	s.gate = victim
	c.provoke(t, s, doing)
	select {
	case <-victim.child.done:
	case <-time.After(time.Minute):
		t.Fatalf("%s was not reached", point)
	}
	if status, ok := victim.child.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("it ended with %v", victim.child.cmd.ProcessState)
	}
	if s.ID == "" {
		s.ID = c.only(t)
	}
	s.gate = c.sconce(t, binary, "")
	time.Sleep(3 * time.Second) // what is right now must stay so
	within(t, tidied, "all is tidied up", func() bool { return c.wrong(t, s.ID, doing == "close") == nil })
	c.goesOn(t, s, doing == "close")
}

// provoke has the victim do what it dies of.
func (c *crash) provoke(t *testing.T, s *session, doing string) {
	t.Helper()
	token, err := s.gate.as("ada")
	if err != nil {
		t.Fatal(err)
	}
	switch doing {
	case "create":
		_ = c.create(s.gate, token)
	case "wake":
		_ = s.query(t)
	case "close":
		_, _ = s.gate.run(token, "session", "close", s.ID, "--ca", s.gate.ca, "--tls")
	case "die":
		killEngine(t, c.dir, engineOf(t, c.w.redisAddress, s))
	}
}

// create makes a session on the machine by way of g.
func (c *crash) create(g *gateway, token string) error {
	_, err := g.run(token, "session", "create", "--cluster", c.cluster, "--idle-timeout", awake.String(), "--ca", g.ca, "--tls")
	return err
}

// only is the one session of the machine's cluster.
func (c *crash) only(t *testing.T) string {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: c.w.redisAddress})
	defer rdb.Close()
	keys, err := rdb.Keys(t.Context(), "sconce:s:{*}").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if rdb.HGet(t.Context(), key, "cluster").Val() == c.cluster {
			return strings.TrimSuffix(strings.TrimPrefix(key, "sconce:s:{"), "}")
		}
	}
	t.Fatal("no session was recorded")
	return ""
}

// goesOn uses the session: it works, or says that it is closed. Then it is closed,
// and nothing is left.
func (c *crash) goesOn(t *testing.T, s *session, closed bool) {
	t.Helper()
	if closed {
		refusal(t, s.query(t), codes.FailedPrecondition, "SESSION_CLOSED", "sconce session create")
		return
	}
	if s.Token == "" {
		s.Token = s.issue(t)
	}
	if err := s.query(t); err != nil {
		t.Errorf("a query after it: %v", err)
	}
	if err := c.wrong(t, s.ID, false); err != nil {
		t.Error(err)
	}
	s.close(t)
	within(t, tidied, "the closed session's engine is stopped", func() bool { return c.wrong(t, s.ID, true) == nil })
}

// resting makes a session that becomes idle, and leaves it to the test to close.
func (g *gateway) resting(t *testing.T, cluster string, idle time.Duration) *session {
	t.Helper()
	var made struct{ ID string }
	g.do(t, "ada", &made, "session", "create", "--cluster", cluster, "--idle-timeout", idle.String(), "--ca", g.ca, "--tls")
	s := &session{gate: g, ID: made.ID, Owner: "ada"}
	s.Token = s.issue(t)
	return s
}

// TestPausedHolder: of two Sconces that wake one session the one that holds it is
// stopped for longer than its lease. The other takes over, and when the first goes
// on it takes nothing away.
func TestPausedHolder(t *testing.T) {
	w := needs(t)
	binary := deadly(t)
	for _, point := range []string{"wake.leased", "wake.launched", "wake.restored"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			c := machine(t, w)
			holder, other := c.sconce(t, binary, "stop:"+point), c.sconce(t, binary, "")
			token, err := other.as("ada")
			if err != nil {
				t.Fatal(err)
			}
			answer := make(chan error, 1)
			go func() { answer <- c.create(holder, token) }()
			within(t, time.Minute, "the holder is stopped", func() bool { return stopped(t, holder.child.cmd.Process.Pid) })
			s := &session{gate: other, ID: c.only(t), Owner: "ada"}
			s.Token = s.issue(t)
			if err := s.query(t); err != nil {
				t.Errorf("by way of the other: %v", err)
			}
			engine := engineOf(t, w.redisAddress, s)
			if err := syscall.Kill(holder.child.cmd.Process.Pid, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if err := <-answer; err != nil {
				t.Errorf("the create by way of the holder: %v", err)
			}
			time.Sleep(5 * time.Second) // what is right now must stay so
			within(t, tidied, "one engine is left", func() bool { return c.wrong(t, s.ID, false) == nil })
			if now := engineOf(t, w.redisAddress, s); now != engine || s.state(t) != "active" {
				t.Errorf("it was active on %s and is %s on %s", engine, s.state(t), now)
			}
			c.goesOn(t, s, false)
		})
	}
}

// stopped says whether a process is.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	text := content(t, fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(text, ") ")
	return strings.HasPrefix(rest, "T")
}
