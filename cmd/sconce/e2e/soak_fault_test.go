package e2e

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// faultKind is a fault and what clients may be told besides right answers.
type faultKind struct {
	name string
	do   func(s *soak, t *testing.T)
	// may are the reasons that a query may end with, on each engine. What is
	// UNAVAILABLE is tried again, and so is never among them.
	may map[string][]string
}

// Engines, as in faultKind.may.
const (
	onDrawn = "drawn"
	onSail  = "Sail"
	onSpark = "Spark"
)

// noticed is how long after a fault a client on a busy machine may still write to a
// connection that is gone. After that the fault is no excuse any more.
const noticed = 10 * time.Second

// tornOff are the ends of queries whose clients lose their streams and come back by
// ReattachExecute: to Sail when the operation may be over, to Apache Spark when it may
// not have begun.
var tornOff = map[string][]string{onSail: {engineLostIt}, onSpark: {sparkOrphaned}}

var faultKinds = []faultKind{
	{name: "Redis hung", do: (*soak).redisHangs},
	{name: "Redis killed, started again", do: (*soak).redisDies},
	{name: "Redis slow", do: (*soak).redisSlows},
	{name: "an engine hung", do: (*soak).engineHangs},
	{name: "an engine killed", do: (*soak).engineDies, may: map[string][]string{onSail: {"ENGINE_LOST", "ENGINE_NOT_REACHED", "SESSION_START_FAILED", engineLostIt, cutInMessage}}},
	{name: "connections of an engine cut", do: (*soak).engineCut, may: map[string][]string{onDrawn: {"ENGINE_LOST", "ENGINE_NOT_REACHED", cutInMessage}}},
	{name: "a replica ended by SIGTERM", do: (*soak).replicaEnds},
	{name: "a replica ended by SIGKILL", do: (*soak).replicaDies, may: tornOff},
	{name: "a replica paused", do: (*soak).replicaPauses, may: tornOff},
	{name: "connections of all clients cut", do: (*soak).clientsCut, may: tornOff},
}

// faultLog knows what was wrong when.
type faultLog struct {
	mu   sync.Mutex
	list []*fault
}

type fault struct {
	*faultKind
	begun, over time.Time // over is zero while it lasts
}

func (l *faultLog) begin(k *faultKind) *fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &fault{faultKind: k, begun: time.Now()}
	l.list = append(l.list, f)
	return f
}

// killed says whether a replica was killed between these times.
func (l *faultLog) killed(from, to time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.list, func(f *fault) bool {
		return f.name == "a replica ended by SIGKILL" && f.begun.After(from) && f.begun.Before(to)
	})
}

func (l *faultLog) end(f *fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.over = time.Now()
}

// allows says whether a fault since begun explains the reason.
func (l *faultLog) allows(begun time.Time, on, reason string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.list, func(f *fault) bool {
		if !f.over.IsZero() && f.over.Add(noticed).Before(begun) {
			return false
		}
		return slices.Contains(f.may[on], reason)
	})
}

// cutSince says whether clients may have been cut off since then.
func (l *faultLog) cutSince(begun time.Time) bool {
	return l.allows(begun, onSail, engineLostIt)
}

// counts are the faults there were, by name.
func (l *faultLog) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := map[string]int{}
	for _, f := range l.list {
		n[f.name]++
	}
	return n
}

func (s *soak) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)))
}

// lasts is how long the fault goes on.
func (s *soak) lasts(most time.Duration) { time.Sleep(s.between(500*time.Millisecond, most)) }

// recovered waits until both replicas are ready.
func (s *soak) recovered(t *testing.T) {
	for _, r := range s.replicas {
		if err := r.child.ready(time.Minute, answers(r.admin+"/readyz")); err != nil {
			t.Error(err)
		}
	}
}

func (s *soak) redisHangs(t *testing.T) {
	_ = s.redis.cmd.Process.Signal(syscall.SIGSTOP)
	s.lasts(8 * time.Second)
	_ = s.redis.cmd.Process.Signal(syscall.SIGCONT)
	s.recovered(t)
}

func (s *soak) redisDies(t *testing.T) {
	killGroup(s.redis.cmd.Process.Pid)
	<-s.redis.done
	s.lasts(6 * time.Second)
	s.startRedis(t)
	s.recovered(t)
}

func (s *soak) redisSlows(t *testing.T) {
	s.redisWay.slow(t)
	s.lasts(8 * time.Second)
	s.redisWay.quick()
	s.recovered(t)
}

// slowWay is a way to Redis on which answers may take their time.
type slowWay struct{ *toxiproxy.Proxy }

func newSlowWay(t *testing.T, address string) *slowWay {
	t.Helper()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard)), "redis", "127.0.0.1:0", address)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &slowWay{p}
}

// slow has each answer take about half of what a replica waits for it.
func (w *slowWay) slow(t *testing.T) {
	t.Helper()
	if _, err := w.Toxics.AddToxicJson(strings.NewReader(`{"type": "latency", "stream": "downstream", "attributes": {"latency": 100, "jitter": 50}}`)); err != nil {
		t.Error(err)
	}
}

func (w *slowWay) quick() { w.Toxics.ResetToxics(context.Background()) }

// active is the address of the engine that a client's session is active on; "" = it is not.
func (s *soak) active(rdb *redis.Client, c *soaker) string {
	if !c.sail() {
		return ""
	}
	in, err := rdb.HMGet(context.Background(), "sconce:s:{"+c.sessionID()+"}", "engine", "state").Result()
	if err != nil || in[1] != "active" {
		return ""
	}
	return engineAddress(fmt.Sprint(in[0]))
}

// some is an engine of Sconce's own that is in use; "" = there is none.
func (s *soak) some(rdb *redis.Client) string {
	for _, i := range s.rng.Perm(len(s.soakers)) {
		if address := s.active(rdb, s.soakers[i]); address != "" && listens(address) {
			return address
		}
	}
	return ""
}

// engineDies kills the engine that a session runs on, and waits until the registry
// has nobody on it: from then on no query may be told of it.
func (s *soak) engineDies(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: s.redisAddress})
	defer rdb.Close()
	address := s.some(rdb)
	if address == "" {
		return
	}
	killEngine(t, s.state, address)
	within(t, time.Minute, "nobody is on an engine that is dead", func() bool {
		return !slices.ContainsFunc(s.soakers, func(c *soaker) bool { return s.active(rdb, c) == address })
	})
}

// engineHangs stops an engine for a moment: Sconce's own, or Apache Spark.
func (s *soak) engineHangs(*testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: s.redisAddress})
	defer rdb.Close()
	pid := -s.w.spark.child.cmd.Process.Pid // its group: a script starts it
	if address := s.some(rdb); address != "" && s.rng.IntN(3) > 0 {
		if own, err := pidAt(s.state, address); err == nil { // else it has just ended
			pid = own
		}
	}
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	s.lasts(3 * time.Second)
	_ = syscall.Kill(pid, syscall.SIGCONT)
}

func (s *soak) engineCut(*testing.T) { s.drawn.Cut() }

func (s *soak) replicaEnds(t *testing.T) {
	second := s.replicas[1]
	_ = second.child.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-second.child.done:
	case <-time.After(time.Minute):
		t.Errorf("a replica does not end by SIGTERM:\n%s", second.child.tail())
		killGroup(second.child.cmd.Process.Pid)
	}
	if code := second.child.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("a replica ended with %d by SIGTERM, want 0:\n%s", code, second.child.tail())
	}
	s.startSecond(t)
}

func (s *soak) replicaDies(t *testing.T) {
	second := s.replicas[1].child
	_ = second.cmd.Process.Kill()
	<-second.done
	s.lasts(3 * time.Second)
	s.startSecond(t)
}

// replicaPauses is long enough for its leases to run out.
func (s *soak) replicaPauses(t *testing.T) {
	second := s.replicas[1].child.cmd.Process
	_ = second.Signal(syscall.SIGSTOP)
	s.lasts(20 * time.Second)
	_ = second.Signal(syscall.SIGCONT)
	s.recovered(t)
}

func (s *soak) clientsCut(*testing.T) { s.balancer.sever() }

// TestSoakExcuses: what Apache Spark says of an operation that it gave up before it began
// passes for a query that may have lost its stream, and nothing else of Spark's does.
func TestSoakExcuses(t *testing.T) {
	const orphaned = "(org.apache.spark.SparkIllegalStateException) [SPARK_CONNECT_ILLEGAL_STATE.EXECUTION_STATE_OPERATION_ORPHANED] Spark Connect encountered an illegal state condition."
	at := time.Now()
	for _, tc := range []struct {
		name, fault, on, said string
		begun                 time.Time
		want                  bool
	}{
		{name: "paused while it ran", fault: "a replica paused", on: onSpark, said: orphaned, begun: at.Add(-time.Minute), want: true},
		{name: "killed just before", fault: "a replica ended by SIGKILL", on: onSpark, said: orphaned, begun: at.Add(noticed / 2), want: true},
		{name: "paused long before", fault: "a replica paused", on: onSpark, said: orphaned, begun: at.Add(2 * noticed)},
		{name: "a fault that tears no stream off", fault: "Redis hung", on: onSpark, said: orphaned, begun: at},
		{name: "another engine", fault: "a replica paused", on: onSail, said: orphaned, begun: at},
		{name: "another state of Spark's", fault: "a replica paused", on: onSpark, said: "[SPARK_CONNECT_ILLEGAL_STATE.SESSION_MANAGEMENT_SESSION_ALREADY_CLOSED]", begun: at},
		{name: "Spark lost it", fault: "a replica paused", on: onSpark, said: "operation not found", begun: at},
		{name: "the plan names it", fault: "a replica paused", on: onSpark, said: "[PARSE_SYNTAX_ERROR] near EXECUTION_STATE_OPERATION_ORPHANED", begun: at},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.name == tc.fault })
			l := faultLog{list: []*fault{{faultKind: &faultKinds[i], begun: at.Add(-time.Second), over: at}}}
			if got := l.allows(tc.begun, tc.on, engineReason(tc.said)); got != tc.want {
				t.Errorf("it is excused: %v, want %v", got, tc.want)
			}
		})
	}
}

// TestSoakUntold: an engine that still has something of a closed session passes where a
// replica was killed between the close and what the engine is told of it, and only there.
func TestSoakUntold(t *testing.T) {
	asked := time.Now()
	answered := asked.Add(2 * time.Second)
	for _, tc := range []struct {
		name, fault string
		begun       time.Time
		open, want  bool
	}{
		{name: "killed before the answer", fault: "a replica ended by SIGKILL", begun: asked.Add(time.Second), want: true},
		{name: "killed before the engine was told", fault: "a replica ended by SIGKILL", begun: answered.Add(time.Second), want: true},
		{name: "killed before the close", fault: "a replica ended by SIGKILL", begun: asked.Add(-time.Second)},
		{name: "killed long after it", fault: "a replica ended by SIGKILL", begun: answered.Add(toldWithin + time.Second)},
		{name: "another fault", fault: "a replica ended by SIGTERM", begun: answered.Add(time.Second)},
		{name: "never closed", fault: "a replica ended by SIGKILL", begun: asked.Add(time.Second), open: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.name == tc.fault })
			l := faultLog{list: []*fault{{faultKind: &faultKinds[i], begun: tc.begun}}}
			e := end{asked, answered}
			if tc.open {
				e = end{}
			}
			if got := e.untold(l.killed); got != tc.want {
				t.Errorf("it is excused: %v, want %v", got, tc.want)
			}
		})
	}
}
