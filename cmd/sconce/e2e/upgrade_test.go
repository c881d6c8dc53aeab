package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions/launch"
)

// upgradeRounds is how many times a replica is restarted, for each engine and signal.
var (
	upgradeRounds = flag.Int("upgrade.rounds", 4, "restarts of a replica in each case of TestUpgrade")
	upgradeWide   = flag.Int("upgrade.wide", 1, "PySpark's downloads in TestUpgrade are so many times larger: 70 are 1 GB each")
)

const (
	// drainTimeout is longer than a download takes, on a busy machine and of 1 GB, too.
	drainTimeout = 3 * time.Minute
	// endsWithin is for a replica whose streams have ended: it does not wait for drainTimeout.
	endsWithin = 2 * time.Minute
)

// TestUpgrade restarts two replicas in turn, behind HAProxy in its TCP mode, while
// clients run small queries and downloads without pause. No query fails, and every
// answer is right to the row.
//
// What no proxy can mend is not asked for: Sail forgets an operation with its last
// message, so what a killed replica had of it may be lost; to the JVM client a
// connection that was killed may be UNKNOWN, which it does not try again; and Spark
// repeats no more than its buffer holds, which is why the Spark of the killed replicas
// has the buffer that our preset gives it.
func TestUpgrade(t *testing.T) {
	w := needs(t)
	for _, tc := range []struct {
		name   string
		engine func(t *testing.T) *engine
		how    syscall.Signal
		jvm    bool
	}{
		{"Sail", func(*testing.T) *engine { return w.sail }, syscall.SIGTERM, true},
		{"Spark", func(*testing.T) *engine { return w.spark }, syscall.SIGTERM, true},
		{"Spark", w.roomySpark, syscall.SIGKILL, false},
	} {
		t.Run(fmt.Sprintf("%s/%v", tc.name, tc.how), func(t *testing.T) {
			e := tc.engine(t)
			u := upgradeTo(t, w, e)
			clients := u.begin(t, e, tc.jvm)
			for round := range *upgradeRounds {
				u.restart(t, round%2, tc.how)
			}
			u.stop(t)
			clients.Wait()
			t.Logf("results handed over, and bytes of answers, by session: %v, %v", u.handed(t), u.carried(t))
		})
	}
}

// TestHandOver ends a replica with SIGTERM in the middle of a download. On Spark the
// result is handed over, so the replica is gone long before the download ends, and the
// client has every row once. On Sail the replica waits, and for PySpark 3.4, which cannot
// reattach, on both.
func TestHandOver(t *testing.T) {
	w := needs(t)
	store := trustStore(t, w)
	for _, e := range []*engine{w.sail, w.spark} {
		for _, client := range []struct {
			name  string
			waits bool // also on Spark
			run   func(t *testing.T, url string) line
		}{
			{py34.name, true, py34.downloads(w, "stream")}, {py35.name, false, py35.downloads(w, "iterate")},
			{py40.name, false, py40.downloads(w, "iterate")}, {newest.name, false, newest.downloads(w, "iterate")},
			{"JVM", false, func(t *testing.T, url string) line {
				folder := t.TempDir()
				if err := os.WriteFile(filepath.Join(folder, "stop"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				return runJVMWith(t, w, store, url, 4*time.Minute, "-Dwithout_pause="+folder)["without_pause"]
			}},
		} {
			t.Run(e.name+"/"+client.name, func(t *testing.T) {
				u := newUpgrade(t, w)
				leaves := u.replicas[0]
				u.balancer.turn(leaves.host())
				u.balancer.spare = true
				u.balancer.onCut = func() {
					u.balancer.turn(u.replicas[1].host())
					_ = leaves.child.cmd.Process.Signal(syscall.SIGTERM)
				}
				u.balancer.cutAfter(handOverAfter)
				s := u.open(t, client.name, e)
				if problem := client.run(t, s.at(u.balancer.addr())).failed(); problem != "" {
					t.Errorf("after the drain: %s", problem)
				}
				select {
				case <-leaves.child.done:
				case <-time.After(endsWithin):
					t.Fatal("the drained replica does not end")
				}
				if code := leaves.child.cmd.ProcessState.ExitCode(); code != 0 {
					t.Errorf("the drained replica ended with %d, want 0:\n%s", code, leaves.child.tail())
				}
				want := 0
				if e == w.spark && !client.waits {
					want = 1
				}
				if got := u.handed(t)[s.ID]; got != want {
					t.Errorf("%d results were handed over, want %d", got, want)
				}
			})
		}
	}
}

// TestMaxConnectionAge has connections grow old every few seconds while clients run
// without pause: they move on to other connections, also to the other replica, and
// no query fails, nor is one handed over.
func TestMaxConnectionAge(t *testing.T) {
	w := needs(t)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			u := newUpgrade(t, w, "max_connection_age: 3s\n")
			clients := u.begin(t, e, true)
			before := u.balancer.taken.Load()
			time.Sleep(ageFor)
			moved := func() int { return int(u.balancer.taken.Load() - before) }
			aged := until(t.Context(), 2*time.Minute, "each client made two connections", func() (bool, error) { return moved() >= 2*len(u.sessions), nil })
			u.stop(t)
			clients.Wait()
			t.Logf("%d clients made %d connections", len(u.sessions), moved())
			if aged != nil {
				t.Errorf("connections do not grow old: %v", aged)
			}
			if handed := u.handed(t); len(handed) > 0 {
				t.Errorf("results were handed over without a drain: %v", handed)
			}
			for _, r := range u.replicas {
				if n := u.served(t, r); n == 0 {
					t.Error("a replica served nobody")
				}
			}
		})
	}
}

// ageFor is several times the age of connections in TestMaxConnectionAge.
const ageFor = 20 * time.Second

// handOverAfter is how many bytes of a download come before the drain: a tenth of it.
const handOverAfter = 2 << 20

// downloads does one download, by a case of lasting.py.
func (p python) downloads(w *world, name string) func(t *testing.T, url string) line {
	return func(t *testing.T, url string) line {
		t.Helper()
		return p.run(t, w, job{URL: url, Cases: []string{name}, Rows: upgradeRows, Wide: *upgradeWide}, 4*time.Minute)[name]
	}
}

// upgrade is two replicas behind a balancer, and clients that go on until told.
type upgrade struct {
	w        *world
	replicas [2]*gateway
	gone     []*gateway // those that ended in restart
	more     string     // of their configuration
	balancer *link
	front    string            // where clients connect; what stands there leads to the replicas
	folder   string            // where clients say that they have begun, and are told to stop
	sessions map[string]string // by client
}

// newUpgrade starts the replicas, with these lines more in their configuration.
func newUpgrade(t *testing.T, w *world, more ...string) *upgrade {
	t.Helper()
	u := &upgrade{w: w, folder: t.TempDir(), sessions: map[string]string{}}
	for i := range u.replicas {
		u.replicas[i] = w.gate.replica(t, more...)
	}
	var err error
	if u.balancer, err = newLink(u.replicas[0].host()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.balancer.close)
	u.front = u.balancer.addr()
	u.balance()
	return u
}

// upgradeTo is newUpgrade for replicas with this engine, behind HAProxy.
func upgradeTo(t *testing.T, w *world, e *engine) *upgrade {
	t.Helper()
	u := newUpgrade(t, w)
	if e != w.sail && e != w.spark {
		u.more = fmt.Sprintf("  - {name: %s, address: %q, token: %q}\n", e.cluster, e.address, e.secret)
		for i, r := range u.replicas {
			r.child.end(20 * time.Second)
			u.replicas[i] = w.gate.replicaOn(t, r.port, u.more)
		}
	}
	u.front = startHAProxy(t, w, u.replicas[0].host(), u.replicas[1].host())
	return u
}

// roomySpark is a Spark of its own, which can repeat as much as our preset lets it.
func (w *world) roomySpark(t *testing.T) *engine {
	t.Helper()
	dir := t.TempDir()
	e, err := startSpark(dir, w.cache, launch.RetryBuffer)
	if e != nil && e.child != nil {
		t.Cleanup(func() { e.child.end(20 * time.Second) })
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.link.close)
	e.cluster = "roomy-spark"
	return e
}

// begin starts the clients, each with a session of its own, and waits until each had
// an answer of each kind.
func (u *upgrade) begin(t *testing.T, e *engine, jvm bool) *sync.WaitGroup {
	t.Helper()
	var clients sync.WaitGroup
	for _, p := range []python{py35, py40, newest} {
		s := u.open(t, p.name, e)
		clients.Go(func() {
			order := job{URL: s.at(u.front), Cases: []string{"without_pause"}, Scratch: u.folder, Rows: upgradeRows, Wide: *upgradeWide}
			u.judge(t, p.name, p.run(t, u.w, order, upgradeLimit)["without_pause"])
		})
	}
	if jvm {
		s, store := u.open(t, "JVM", e), trustStore(t, u.w)
		clients.Go(func() {
			got := runJVMWith(t, u.w, store, s.at(u.front), upgradeLimit, "-Dwithout_pause="+u.folder)
			u.judge(t, "JVM", got["without_pause"])
		})
	}
	u.begun(t, len(u.sessions))
	return &clients
}

func (u *upgrade) open(t *testing.T, client string, e *engine) *session {
	t.Helper()
	s := u.replicas[0].open(t, "ada", e.cluster)
	u.sessions[client] = s.ID
	return s
}

const (
	// upgradeRows are downloaded again and again, some 42 bytes each.
	upgradeRows  = 400_000
	upgradeLimit = 30 * time.Minute
	// upgradePause is how long clients run before a replica ends.
	upgradePause = 5 * time.Second
)

func (u *upgrade) judge(t *testing.T, client string, got line) {
	if problem := got.failed(); problem != "" {
		t.Errorf("%s: %s", client, problem)
		return
	}
	t.Logf("%s: %s", client, got.Result)
}

// begun waits until so many clients had an answer of each kind.
func (u *upgrade) begun(t *testing.T, clients int) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		found, err := filepath.Glob(filepath.Join(u.folder, "begun-*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == clients {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%d of %d clients have begun", len(found), clients)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (u *upgrade) stop(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(u.folder, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// restart ends one replica and starts it anew; the other has its clients meanwhile.
func (u *upgrade) restart(t *testing.T, i int, how syscall.Signal) {
	t.Helper()
	old := u.replicas[i]
	time.Sleep(upgradePause)
	begun := time.Now()
	if err := old.child.cmd.Process.Signal(how); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.child.done:
	case <-time.After(4 * time.Minute):
		t.Errorf("the replica did not end by %v", how)
	}
	t.Logf("a replica ended by %v after %v", how, time.Since(begun).Round(100*time.Millisecond))
	if code := old.child.cmd.ProcessState.ExitCode(); how == syscall.SIGTERM && code != 0 {
		t.Errorf("the drained replica ended with %d, want 0:\n%s", code, old.child.tail())
	}
	u.gone = append(u.gone, old)
	u.replicas[i] = u.w.gate.replicaOn(t, old.port, u.more)
}

// balance sends clients to both replicas.
func (u *upgrade) balance() { u.balancer.turn(u.replicas[0].host(), u.replicas[1].host()) }

// handed counts the results that replicas handed over, by session.
func (u *upgrade) handed(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, g := range append(u.gone, u.replicas[:]...) {
		for _, e := range g.ended(t) {
			if e.Handed {
				counts[e.Session]++
			}
		}
	}
	return counts
}

// carried counts the bytes of the answers, by session. What a replica that was killed had
// not written down is not in it.
func (u *upgrade) carried(t *testing.T) map[string]uint64 {
	t.Helper()
	bytes := map[string]uint64{}
	for _, g := range append(u.gone, u.replicas[:]...) {
		for _, e := range g.ended(t) {
			bytes[e.Session] += e.Out
		}
	}
	return bytes
}

// served counts the streams of these clients that a replica served.
func (u *upgrade) served(t *testing.T, g *gateway) (n int) {
	t.Helper()
	for _, e := range g.ended(t) {
		for _, session := range u.sessions {
			if e.Session == session {
				n++
			}
		}
	}
	return n
}

// endedStream is what the log says of a stream that ended.
type endedStream struct {
	Msg, Session string
	Out          uint64
	Handed       bool `json:"handed_over"`
}

// ended reads them from the log.
func (g *gateway) ended(t *testing.T) (list []endedStream) {
	t.Helper()
	text, err := os.ReadFile(g.child.log)
	if err != nil {
		t.Fatal(err)
	}
	for entry := range strings.Lines(string(text)) {
		var e endedStream
		if json.Unmarshal([]byte(entry), &e) == nil && e.Msg == "stream ended" {
			list = append(list, e)
		}
	}
	return list
}
