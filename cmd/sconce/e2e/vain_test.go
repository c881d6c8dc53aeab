package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPlansThatWaitInVain: Redis is away for longer than a plan may wait. The client asks
// for the operation until Redis is back, is told that it never started, and sends it
// again by itself: nobody is shown anything.
//
// One replica no longer knows the session. Another one does, but the SparkSession is new:
// so it is with PySpark before 4.1, where a plan can be the first request of one. The
// others ask for a setting first, and wait with that.
func TestPlansThatWaitInVain(t *testing.T) {
	w := needs(t)
	v := startVain(t, w)
	store := trustStore(t, w)
	for _, e := range []*engine{w.sail, w.spark} {
		v.run(t, newest.name, v.forgets.open(t, "ada", e.cluster), v.python(newest, "plan_later"))
		v.run(t, "JVM", v.forgets.open(t, "ada", e.cluster), func(t *testing.T, url string) line {
			return runJVMWith(t, w, store, url, vainLimit, "-Dplan_later="+v.folder)["plan_later"]
		})
	}
	v.begun(t, 4)
	fresh := map[*session]python{}
	for _, e := range []*engine{w.sail, w.spark} {
		for _, p := range []python{py35, py40} {
			s := v.knows.open(t, "ada", e.cluster)
			if err := s.query(t); err != nil { // of another SparkSession
				t.Fatal(err)
			}
			fresh[s] = p
		}
	}
	back := v.without(t)
	for s, p := range fresh {
		v.run(t, p.name+", a new SparkSession", s, v.python(p, "plan_first"))
	}
	const plans = 8
	within(t, vainLimit/2, "all plans have waited in vain", func() bool {
		return v.metric(t, `sconce_streams_finished_total{code="UNAVAILABLE",method="ExecutePlan"}`) >= plans
	})
	back()
	v.clients.Wait()
	if n := v.metric(t, `sconce_streams_refused_total{reason="OPERATION_NOT_STARTED"}`); n != plans {
		t.Errorf("%v clients were told to send their plan again, want %d", n, plans)
	}
	if n := v.metric(t, `sconce_streams_refused_total{reason="HELD_TOO_LONG"}`); n != 0 {
		t.Errorf("%v clients were shown that their plan had waited", n)
	}
}

const vainLimit = 8 * time.Minute

// vain is a Redis of its own, two replicas on it, and clients.
type vain struct {
	w              *world
	redis          *child
	dir, address   string   // of Redis
	knows, forgets *gateway // a session that it knew, while Redis is away
	folder         string   // where clients say that they have begun, and are told to go on
	clients        sync.WaitGroup
}

func startVain(t *testing.T, w *world) *vain {
	t.Helper()
	v := &vain{w: w, dir: t.TempDir(), folder: t.TempDir()}
	t.Cleanup(v.clients.Wait)
	var err error
	if v.redis, v.address, err = startRedis(v.dir, w.cache); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.redis.end(10 * time.Second) })
	shared := front(v.address, w.sail, w.spark) + "hold_timeout: 3s\n"
	v.knows = w.gate.apart(t, shared+"registry_grace: 10m\n")
	v.forgets = w.gate.apart(t, shared+"registry_grace: "+outageGrace.String()+"\n")
	return v
}

// python is a client with one case.
func (v *vain) python(p python, name string) func(t *testing.T, url string) line {
	return func(t *testing.T, url string) line {
		return p.run(t, v.w, job{URL: url, Cases: []string{name}, Scratch: v.folder}, vainLimit)[name]
	}
}

// run starts a client in this session.
func (v *vain) run(t *testing.T, name string, s *session, client func(t *testing.T, url string) line) {
	t.Helper()
	v.clients.Go(func() {
		if problem := client(t, s.url("127.0.0.1")).failed(); problem != "" {
			t.Errorf("%s: %s", name, problem)
		}
	})
}

func (v *vain) begun(t *testing.T, clients int) {
	t.Helper()
	within(t, vainLimit/2, "the clients have begun", func() bool {
		found, err := filepath.Glob(filepath.Join(v.folder, "begun-*"))
		return err == nil && len(found) == clients
	})
}

// without kills Redis, and returns when clients can notice it and were told to go on.
func (v *vain) without(t *testing.T) (back func()) {
	t.Helper()
	killGroup(v.redis.cmd.Process.Pid)
	<-v.redis.done
	gone := time.Now()
	within(t, 3*outageGrace, "a replica forgets", func() bool { return time.Since(gone) > 2*outageGrace })
	if err := os.WriteFile(filepath.Join(v.folder, "away"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		_, port, _ := strings.Cut(v.address, ":")
		again, err := startRedisAt(v.dir, v.w.cache, port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { again.end(10 * time.Second) })
	}
}

// metric is the sum over both replicas.
func (v *vain) metric(t *testing.T, name string) int {
	t.Helper()
	return int(v.knows.metric(t, name) + v.forgets.metric(t, name))
}
