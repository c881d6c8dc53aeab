package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// errWrong is an answer that no fault excuses.
var errWrong = errors.New("a wrong answer")

// soakCounts are what became of everything that clients did.
type soakCounts struct {
	retried atomic.Int64

	mu      sync.Mutex
	right   map[string]int            // by act
	refused map[string]map[string]int // by act and reason: what a fault excused
	wrong   int
}

// mostWrong ends a soak that has seen enough.
const mostWrong = 20

func (n *soakCounts) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.right, n.refused = map[string]int{}, map[string]map[string]int{}
	n.retried.Store(0)
}

func (n *soakCounts) tooWrong() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wrong >= mostWrong
}

// judge counts the end of an act, and says whether it was right.
func (c *soaker) judge(name string, begun time.Time, err error) bool {
	excused := err != nil && !errors.Is(err, errWrong) && c.faults.allows(begun, c.on(), reasonOf(err))
	n := &c.counts
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err == nil:
		n.right[name]++
	case excused:
		if n.refused[name] == nil {
			n.refused[name] = map[string]int{}
		}
		n.refused[name][reasonOf(err)]++
	default:
		if n.wrong++; n.wrong <= mostWrong {
			c.t.Errorf("%s, %s of client %d in session %s after %v: %s: %v", time.Now().Format(time.TimeOnly), name, c.number, c.sessionID(),
				time.Since(begun).Round(time.Millisecond), reasonOf(err), redact(err.Error()))
		}
	}
	return err == nil
}

// sample is what is left when nobody is there.
type sample struct {
	replicas [2]process
	keys     map[string]int // keys of Redis that never expire, by kind
	expiring map[string]int // those that do
	counted  int64          // tokens that count for their organisation
}

// process is what a replica holds.
type process struct{ goroutines, descriptors, heap, resident, connections, streams int }

// Room for what is alive in an idle process: its own connections to Redis and to
// engines come and go, more of those to Redis where it was slow.
const (
	roomGoroutines  = 8
	roomDescriptors = 16
	roomHeap        = 8 << 20
)

// within says what is more than before.
func (p process) within(before process) error {
	var list []error
	more := func(what string, now, then, room int) {
		if now > then+room {
			list = append(list, fmt.Errorf("%d %s, before it were %d", now, what, then))
		}
	}
	more("goroutines", p.goroutines, before.goroutines, roomGoroutines)
	more("descriptors", p.descriptors, before.descriptors, roomDescriptors)
	more("bytes of heap", p.heap, before.heap, roomHeap)
	more("connections of clients", p.connections, 0, 0)
	more("streams", p.streams, 0, 0)
	return errors.Join(list...)
}

// mayLast are the keys that stay for their time after a close, by the page of package
// redisstore.
var mayLast = []string{"s:{}", "s:{}:bound", "s:{}:tokens", "s:{}:uses", "b:{}", "o:{}:r:", orgTokens, "o:{}:tokens"}

const orgTokens = "g:{}:tokens"

// mostCounted is how many tokens may count on, for their time: those that were counted,
// and then not recorded, since Redis or the replica was away.
const mostCounted = 20

// differs says what is not as before.
func (a *sample) differs(before *sample) error {
	list := []error{a.replicas[0].within(before.replicas[0]), a.replicas[1].within(before.replicas[0])}
	for kind, n := range a.keys {
		if n > before.keys[kind] {
			list = append(list, fmt.Errorf("%d keys %s without an end, before it were %d", n, kind, before.keys[kind]))
		}
	}
	for kind := range a.expiring {
		if !slices.Contains(mayLast, kind) {
			list = append(list, fmt.Errorf("%d keys %s", a.expiring[kind], kind))
		}
	}
	if a.counted > mostCounted {
		list = append(list, fmt.Errorf("%d tokens of closed sessions count", a.counted))
	}
	return errors.Join(list...)
}

// settled waits until it is as before, or with nothing to compare with until nothing
// changes any more; what it is after that is what it is.
func (s *soak) settled(t *testing.T, before *sample) *sample {
	t.Helper()
	var last *sample
	for late := time.Now().Add(3 * time.Minute); ; time.Sleep(2 * time.Second) {
		now, err := s.sample(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		calm := now.replicas[0].streams == 0 && now.replicas[0].connections == 0 && now.replicas[1].connections == 0
		calm = calm && last != nil && now.replicas[0].goroutines == last.replicas[0].goroutines && maps.Equal(now.keys, last.keys)
		if before != nil {
			calm = now.differs(before) == nil
		}
		if calm || time.Now().After(late) {
			return now
		}
		last = now
	}
}

func (s *soak) compare(t *testing.T, before, after *sample) {
	t.Helper()
	if err := after.differs(before); err != nil {
		t.Errorf("all clients are gone, and there are:\n%v", err)
		for _, r := range s.replicas {
			for _, profile := range []string{"goroutine", "heap"} {
				if text, err := fetchPage(r.admin + "/debug/pprof/" + profile + "?gc=1"); err == nil {
					_ = os.WriteFile(filepath.Join(s.dir, r.name+"."+profile), []byte(text), 0o600)
				}
			}
		}
	}
}

func (s *soak) sample(ctx context.Context) (*sample, error) {
	a := &sample{keys: map[string]int{}, expiring: map[string]int{}}
	for i, r := range s.replicas {
		var err error
		if a.replicas[i], err = measure(r.admin); err != nil {
			return nil, err
		}
	}
	rdb := redis.NewClient(&redis.Options{Addr: s.redisAddress})
	defer rdb.Close()
	for each := rdb.Scan(ctx, 0, "*", 1000).Iterator(); each.Next(ctx); {
		last, err := rdb.PTTL(ctx, each.Val()).Result()
		if err != nil {
			return nil, err
		}
		kind := kindOf(each.Val())
		if last < 0 {
			a.keys[kind]++
		} else {
			a.expiring[kind]++
		}
		if kind == orgTokens {
			a.counted += rdb.ZCard(ctx, each.Val()).Val()
		}
	}
	return a, nil
}

var inBraces = regexp.MustCompile(`\{[^}]*\}`)

// kindOf is a key without what it is of.
func kindOf(key string) string {
	kind := inBraces.ReplaceAllString(strings.TrimPrefix(key, "sconce:"), "{}")
	for _, named := range []string{"o:{}:r:", "s:{}:turn:"} {
		if strings.HasPrefix(kind, named) {
			return named
		}
	}
	return kind
}

// heapAlloc is what a profile in words says of the heap. It is read before the profile
// is made, which leaves some MiB of garbage, and more the longer the process has run.
var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// measure collects garbage and reads the process's own figures.
func measure(admin string) (p process, err error) {
	var text string
	for range 2 { // what a finalizer frees, goes with the second
		if text, err = fetchPage(admin + "/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return p, err
		}
	}
	found := heapAlloc.FindStringSubmatch(text)
	if found == nil {
		return p, errors.New("the profile of the heap does not say HeapAlloc")
	}
	if p.heap, err = strconv.Atoi(found[1]); err != nil {
		return p, err
	}
	text, err = fetchPage(admin + "/metrics")
	if err != nil {
		return p, err
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		base, _, _ := strings.Cut(name, "{")
		into := map[string]*int{
			"go_goroutines": &p.goroutines, "process_open_fds": &p.descriptors,
			"process_resident_memory_bytes": &p.resident, "sconce_connections_open": &p.connections,
			"sconce_streams_open": &p.streams, "sconce_streams_held": &p.streams,
		}[base]
		if into == nil {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return p, fmt.Errorf("metric %q: %w", lines.Text(), err)
		}
		*into += int(n)
	}
	return p, nil
}

func fetchPage(url string) (string, error) {
	reply, err := (&http.Client{Timeout: 20 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	return string(text), err
}

// pythons are unmodified clients that go on until the soak stops.
func (s *soak) pythons(t *testing.T) (wait func()) {
	t.Helper()
	u := &upgrade{w: s.w, folder: s.dir, sessions: map[string]string{}}
	var clients sync.WaitGroup
	t.Cleanup(func() { // where the test ends before its time
		u.stop(t)
		clients.Wait()
	})
	var sessions []*session
	for _, c := range []struct {
		python
		*engine
	}{{py35, s.w.spark}, {py40, s.w.sail}, {newest, s.w.spark}} {
		on := s.replicas[0].open(t, "soak-0", c.cluster)
		sessions = append(sessions, on)
		clients.Go(func() {
			got := c.run(t, s.w, job{URL: on.at(s.balancer.addr()), Cases: []string{"soak"}, Scratch: s.dir, Rows: 20_000}, *soakFor+10*time.Minute)["soak"]
			s.judgePython(t, c.python.name+" on "+c.engine.name, c.engine, got)
		})
	}
	return func() {
		u.stop(t)
		clients.Wait()
		for _, on := range sessions {
			on.close(t)
		}
	}
}

// judgePython is judge for all that such a client did.
func (s *soak) judgePython(t *testing.T, name string, e *engine, got line) {
	if problem := got.failed(); problem != "" {
		t.Errorf("%s: %s", name, problem)
		return
	}
	var seen struct {
		Queries, Downloads int
		Errors             []struct {
			Begun float64
			Said  string
		}
	}
	if err := json.Unmarshal(got.Result, &seen); err != nil {
		t.Error(err)
		return
	}
	n := &s.counts
	n.mu.Lock()
	defer n.mu.Unlock()
	n.right[name] = seen.Queries + seen.Downloads
	for _, e2 := range seen.Errors {
		reason := engineReason(e2.Said)
		if !s.faults.allows(time.UnixMicro(int64(e2.Begun*1e6)), e.name, reason) {
			t.Errorf("%s: %s", name, redact(shorten(e2.Said)))
			continue
		}
		if n.refused[name] == nil {
			n.refused[name] = map[string]int{}
		}
		n.refused[name][reason]++
	}
	if orphaned := n.refused[name][sparkOrphaned]; orphaned > mostOrphaned {
		t.Errorf("%s: %d queries ended with %s, which is no chance any more", name, orphaned, sparkOrphaned)
	}
}

// mostOrphaned is how many queries of one client may meet that moment of some
// milliseconds, a twentieth of a second behind a fault at the least.
const mostOrphaned = 2

// report is docs/soak.md.
func (s *soak) report(before, after *sample) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# A soak of %.0f minutes\n", soakFor.Minutes())
	line("<!-- Written by `make soak`: TestSoak in cmd/sconce/e2e -->\n")
	line("Two replicas behind a plain TCP balancer, one Redis, %d sessions at a time: %d on an engine of the test that answers as Apache Spark does, %d on one Sail that Sconce launches, %d on a Sail of their own, and unmodified PySpark on Sail and on Apache Spark.",
		len(s.soakers)+3, soakDrawn, soakShared, soakOwn)
	line("Faults come one after the other, each with its recovery. Every answer is held against the right one, by the number of its rows and their hash. An error passes only where a fault of that time has to cost it; what is UNAVAILABLE never passes: the clients try it again, as Spark's do, until it is right.")
	line("Once everybody is gone the first replica, which lives from begin to end, has to hold what it held before: up to %d goroutines, %d descriptors and %d MiB more, and in Redis no key more that does not expire.", roomGoroutines, roomDescriptors, roomHeap>>20)
	line("\n    make soak SEED=%d FOR=%s\n", s.seed, *soakFor)
	line("| fault | times |\n|---|---|")
	for _, k := range faultKinds {
		line("| %s | %d |", k.name, s.faults.counts()[k.name])
	}
	n := &s.counts
	n.mu.Lock()
	defer n.mu.Unlock()
	line("\n| what clients did | right | ended by a fault that excuses it |\n|---|---|---|")
	for _, name := range slices.Sorted(maps.Keys(n.right)) {
		var excused []string
		for _, reason := range slices.Sorted(maps.Keys(n.refused[name])) {
			excused = append(excused, fmt.Sprintf("%d %s", n.refused[name][reason], reason))
		}
		line("| %s | %d | %s |", name, n.right[name], strings.Join(excused, ", "))
	}
	line("\nWrong answers and errors without an excuse: %d. Attempts that were repeated: %d. Sessions that slept and woke: %d. Operations whose ReleaseExecute failed, and that were left to the close: %d. Tokens of closed sessions that count on for their time: %d.", n.wrong, n.retried.Load(), s.woken.Load(), s.ends.unreleased(), after.counted)
	line("\n| when all clients are gone | before | after | the replica that was restarted last, after |\n|---|---|---|---|")
	p, q, r := before.replicas[0], after.replicas[0], after.replicas[1]
	line("| goroutines | %d | %d | %d |", p.goroutines, q.goroutines, r.goroutines)
	line("| descriptors | %d | %d | %d |", p.descriptors, q.descriptors, r.descriptors)
	line("| heap, MiB | %.1f | %.1f | %.1f |", mib(p.heap), mib(q.heap), mib(r.heap))
	line("| resident memory, MiB | %.0f | %.0f | %.0f |", mib(p.resident), mib(q.resident), mib(r.resident))
	line("| connections of clients, streams | %d, %d | %d, %d | %d, %d |", p.connections, p.streams, q.connections, q.streams, r.connections, r.streams)
	line("\n| keys in Redis | before | after |\n|---|---|---|")
	for _, kind := range slices.Sorted(maps.Keys(merged(before.keys, after.keys))) {
		line("| `%s` | %d | %d |", kind, before.keys[kind], after.keys[kind])
	}
	for _, kind := range slices.Sorted(maps.Keys(merged(before.expiring, after.expiring))) {
		line("| `%s`, of closed sessions, expires | %d | %d |", kind, before.expiring[kind], after.expiring[kind])
	}
	return b.String()
}

func mib(n int) float64 { return float64(n) / (1 << 20) }

func merged(a, b map[string]int) map[string]int {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
