package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

var (
	soakFor    = flag.Duration("soak.for", 3*time.Minute, "how long TestSoak goes on")
	soakSeed   = flag.Uint64("soak.seed", 0, "what TestSoak does and when; 0 = another seed each time")
	soakReport = flag.String("soak.report", "", "a file for the report of TestSoak")
)

// How many sessions there are on each engine, 200 in all, and one more for each PySpark.
const (
	soakDrawn  = 150 // on an engine that answers as Apache Spark does, at no cost
	soakShared = 44  // on one Sail that Sconce starts
	soakOwn    = 6   // on a Sail of its own each
)

// soak is two replicas behind a balancer, their engines, and clients in 200 sessions.
type soak struct {
	w        *world
	rng      *rand.Rand // of the faults
	seed     uint64
	dir      string
	state    string // state_dir of the replicas
	base     *gateway
	replicas [2]*gateway // the first lives all the time
	balancer *link
	drawn    *drawn
	way      grpc.DialOption
	expected map[string]answer // of the queries of Sail

	redis        *child
	redisPort    int
	redisAddress string
	redisWay     *slowWay // by which replicas reach it

	soakers []*soaker
	stop    chan struct{} // closed: clients finish what they do
	faults  faultLog
	ends    *endLog
	counts  soakCounts
	woken   atomic.Int64
}

// TestSoak has 200 sessions do all that sessions do, while one thing after the other
// fails. Every answer is right to the byte, or one of the errors that the fault
// excuses; and when all are gone, nothing of them is left.
//
// It does what its seed says, but for the clocks of a busy machine. The first replica
// lives from begin to end, so that what leaks adds up; the second one is what is ended.
func TestSoak(t *testing.T) {
	w := needs(t)
	s := newSoak(t, w)
	t.Logf("-soak.seed %d", s.seed)
	s.rehearse(t)
	before := s.settled(t, nil)
	s.run(t)
	after := s.settled(t, before)
	s.compare(t, before, after)
	s.drawn.forgets(t, s.ends, s.faults.killed)
	text := s.report(before, after)
	t.Log("\n" + text)
	if *soakReport != "" && !t.Failed() {
		if err := os.WriteFile(*soakReport, []byte(text), 0o644); err != nil { //nolint:gosec // a page of the documents
			t.Fatal(err)
		}
	}
}

func newSoak(t *testing.T, w *world) *soak {
	t.Helper()
	s := &soak{w: w, seed: *soakSeed, dir: filepath.Join(w.dir, "soak"), stop: make(chan struct{}), ends: newEndLog()}
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano())
	}
	s.rng = rand.New(rand.NewPCG(s.seed, 0))
	s.state = filepath.Join(s.dir, "state")
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.counts.reset()
	s.drawn = startDrawn(t)
	var err error
	if s.redisPort, err = storetest.FindPort(); err != nil {
		t.Fatal(err)
	}
	s.redisAddress = "127.0.0.1:" + strconv.Itoa(s.redisPort)
	s.startRedis(t)
	t.Cleanup(func() { s.redis.end(10 * time.Second) })
	s.redisWay = newSlowWay(t, s.redisAddress)
	s.base = &gateway{
		name: "soak", dir: w.dir, binary: w.gate.binary, config: w.gate.config, ca: w.gate.ca,
		level: "info", control: map[string]string{}, front: s.front(),
	}
	for i := range s.replicas {
		s.replicas[i] = s.base.replica(t)
	}
	if s.balancer, err = newLink(s.replicas[0].host()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.balancer.close)
	s.balance()
	tls, err := credentials.NewClientTLSFromFile(s.base.ca, "")
	if err != nil {
		t.Fatal(err)
	}
	s.way = grpc.WithTransportCredentials(tls)
	s.people(t)
	return s
}

// front is the configuration of both replicas.
func (s *soak) front() string {
	var text strings.Builder
	fmt.Fprintf(&text, "redis: {addresses: [%q]}\nstate_dir: %q\nclusters:\n", s.redisWay.Listen, s.state)
	fmt.Fprintf(&text, "  - {name: drawn, address: %q}\n", s.drawn.Addr())
	for _, e := range []*engine{s.w.sail, s.w.spark} {
		fmt.Fprintf(&text, "  - {name: %s, address: %q, token: %q}\n", e.cluster, e.address, e.secret)
	}
	for name, isolation := range map[string]string{"shared": "shared", "own": "session"} {
		fmt.Fprintf(&text, "  - name: %s\n    launch: {preset: sail, python: %q, cores: 1}\n    isolation: %s\n    min_idle_timeout: 2s\n",
			name, filepath.Join(s.w.cache, "venv", "sail", "bin", "python"), isolation)
	}
	return text.String()
}

func (s *soak) startRedis(t *testing.T) {
	t.Helper()
	binary, err := findProgram("redis-server", s.w.cache)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.redisPort), "--dir", s.dir,
		"--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--daemonize", "no")
	if s.redis, err = startChild(s.dir, "redis", syscall.SIGTERM, cmd); err != nil {
		t.Fatal(err)
	}
	if err := s.redis.ready(20*time.Second, dialable(s.redisAddress)); err != nil {
		t.Fatal(err)
	}
}

// startSecond replaces the second replica.
func (s *soak) startSecond(t *testing.T) {
	t.Helper()
	s.replicas[1] = s.base.replica(t)
	s.balance()
}

func (s *soak) balance() { s.balancer.turn(s.replicas[0].host(), s.replicas[1].host()) }

// Queries of Sail that have one answer only, to the byte.
const (
	sailSum   = "SELECT count(*) AS n, sum(id * 3) AS s FROM range(10000)"
	sailRows  = "SELECT id, id * id AS square FROM range(0, 100, 1, 1)"
	sailLarge = "SELECT id, concat('row ', CAST(id AS STRING)) AS text FROM range(0, 200000, 1, 1)"
)

var sailQueries = map[string]uint64{sailSum: 1, sailRows: 100, sailLarge: 200_000} // and their rows

// expect asks an engine that Sconce has launched, past Sconce.
func (s *soak) expect(t *testing.T) {
	t.Helper()
	s.expected = map[string]answer{}
	on := s.replicas[0].open(t, "soak-0", "shared")
	defer on.close(t)
	conn, err := grpc.NewClient(engineOf(t, s.redisAddress, on), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for sql, rows := range sailQueries {
		p := &patient{caller: &caller{conn: conn}, spark: newUUID(), owner: "soak", retried: func() {}}
		got, err := p.result(t.Context(), sql)
		if err != nil || got.rows != rows {
			t.Fatalf("Sail by itself: %v, %d rows of %q, want %d", err, got.rows, sql, rows)
		}
		s.expected[sql] = got
	}
}

// rehearse has everybody do everything once without a fault, which fills every pool and
// table that is filled by use.
func (s *soak) rehearse(t *testing.T) {
	t.Helper()
	s.expect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s.each(func(c *soaker) {
		c.open(ctx)
		for _, act := range c.acts() {
			act.do(c, ctx)
		}
		c.close(ctx)
	})
	if ctx.Err() != nil {
		t.Fatal("the rehearsal took more than five minutes")
	}
	if s.counts.wrong > 0 {
		t.Fatal("the rehearsal went wrong")
	}
	s.counts.reset()
	s.woken.Store(0)
}

// each runs do for every client at once.
func (s *soak) each(do func(c *soaker)) {
	var wg sync.WaitGroup
	for _, c := range s.soakers {
		wg.Go(func() { do(c) })
	}
	wg.Wait()
}

// run is the soak itself.
func (s *soak) run(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), *soakFor+15*time.Minute)
	defer cancel()
	endPythons := s.pythons(t) // before anybody takes the machine's time
	var clients sync.WaitGroup
	clients.Go(func() { s.each(func(c *soaker) { c.live(ctx) }) })
	for until := time.Now().Add(*soakFor); time.Now().Before(until) && !s.counts.tooWrong(); {
		time.Sleep(s.between(time.Second, 5*time.Second))
		kind := &faultKinds[s.rng.IntN(len(faultKinds))]
		f := s.faults.begin(kind)
		kind.do(s, t)
		s.faults.end(f)
		t.Logf("%s to %s: %s", f.begun.Format(time.TimeOnly), f.over.Format(time.TimeOnly), f.name)
	}
	close(s.stop)
	endPythons()
	clients.Wait()
}
