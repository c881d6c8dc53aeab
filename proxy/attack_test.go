package proxy_test

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

// Attacks by a tenant who has a good token, through the real port, relay, router and
// registry: whatever she does, another tenant is served as before, and nothing of it
// stays. What exactly ends each of them, and at which number, is held by the test that
// its row names. Attacks of an engine are in proxy/relay: TestHostileBackend and
// TestFloodsOfABackendLeaveTheOthersAlone.

// attack is what Alice does over connections of her own, until she is told to stop;
// where a connection ends, she begins again.
type attack struct {
	name     string
	held     string // the tests that hold its bound to the number
	deaf     bool   // she never reads
	leaves   bool   // in the end she is stopped: her sockets stay open, and say nothing
	large    bool   // her plans have large results
	again    bool   // ... and her connections end so fast that the calls of three are there at once
	conns    int    // that she has at a time; 0 = one
	engine   string // it is her engine that floods: proxytest.EngineFloods
	settings []http2.Setting
	run      func(a *attacker)
}

// orders are what the attacker's process is told.
type orders struct {
	Attack, Addr string
	Creds        []string // of Alice, for her own session
	Bob, Token   string   // Bob's session, and a token for it whose signature is wrong
}

// attacker is Alice: a process of her own, so that what she spends on it is not taken
// from the gateway's scheduler.
type attacker struct {
	*proxytest.Foe
	orders
	stop  <-chan struct{} // closed with her standard input
	begun *sync.Once
}

const attackEnv = "SCONCE_TEST_ATTACK"

// beAttacker is main of the attacker's process.
func beAttacker() {
	var o orders
	if err := json.Unmarshal([]byte(os.Getenv(attackEnv)), &o); err != nil {
		panic(err)
	}
	// As from another machine: what she computes takes nothing from who is attacked.
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19); err != nil {
		panic(err)
	}
	all := attacks()
	for _, at := range limitsReached() {
		all = append(all, at.attack)
	}
	i := slices.IndexFunc(all, func(at attack) bool { return at.name == o.Attack })
	at, stop, begun := all[i], make(chan struct{}), sync.Once{}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	again := func() {
		for !over(stop) {
			conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", o.Addr)
			if err != nil {
				panic(err)
			}
			a := &attacker{proxytest.NewFoe(conn, at.deaf, at.settings...), o, stop, &begun}
			go func() { // what is being written fails
				<-stop
				_ = conn.Close()
			}()
			at.run(a)
			a.tell()
			a.Close()
		}
	}
	for range at.conns - 1 {
		go again()
	}
	again()
}

func over(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// tell says that the first of it was sent.
func (a *attacker) tell() { a.begun.Do(func() { fmt.Println("begun") }) }

// flood does it until the connection is over.
func (a *attacker) flood(do func(i int)) {
	for i := 0; a.Flush() && !over(a.stop); {
		for range 32 {
			do(i)
			i++
		}
		a.tell()
	}
}

// hold does it once, and waits.
func (a *attacker) hold(do func()) {
	do()
	a.Flush()
	a.tell()
	<-a.stop
}

// open opens a plan.
func (a *attacker) open() uint32 {
	return a.Open(proxytest.Call(proxytest.SparkService+"ExecutePlan", a.Creds...), false)
}

// plan opens a plan and sends the whole of it.
func (a *attacker) plan() uint32 {
	id := a.open()
	a.Data(id, true, alicePlan)
	return id
}

var alicePlan = proxytest.Message(proxytest.ExecutePlan(spark1, "alice", "", false, nil))

// siege is the gateway that is attacked. Alice and Bob have an engine each, so that what
// he waits for is the gateway and not an engine that is busy with her.
type siege struct {
	*gateway.Gateway
	t          *testing.T
	at         attack
	engine     *siegeEngine // Alice's
	his        *siegeEngine
	alice, bob sessions.ID
	caller     *proxytest.Caller // Bob's
	creds      []string          // Bob's
	method     string            // that Bob calls
	hers       []string          // Alice's, of the last attack
}

// More calls than this are never open at the engine at once. The relay lets a client
// have so many to the number (TestFloodsEndTheConnection); a handler of the engine
// hears of its end a little later, and one under -race much later: that is not judged.
var mostCalls = int64(3 * relay.DefaultLimits().Streams)

const (
	// mostSlower is how much slower another tenant may become, in medians: five times,
	// and as much again for her engine, which shares the gateway's processors here. It is not
	// judged under -race: an instrumented engine costs more than the relay before it.
	mostSlower = 10
	// mostHeld is what an attack may hold in memory while it goes on, in bytes: a
	// hundred windows of either side, with the engine's own buffers.
	mostHeld = 96 << 20
	// mostGoroutines is the same for goroutines: the engine has some for each call, and
	// the port one for each connection.
	mostGoroutines = 1000
)

// sieges is how many slices a test takes at least: 5 are enough to judge the medians by,
// and to read a 99th percentile it takes some hundred.
var sieges = flag.Int("siege.slices", 5, "slices of 50 ms, in turn with and without an attack or a tenant at her limits")

func newSiege(t *testing.T, at attack, quotas proxy.Quotas) *siege {
	t.Helper()
	limits := relay.DefaultLimits()
	limits.PingAfter, limits.PingTimeout, limits.Preface = 2*time.Second, 5*time.Second, time.Second
	answers := cmp.Or(at.engine, smallResults)
	if at.large {
		answers = largeResults
	}
	s := &siege{t: t, at: at, method: analyze, engine: startSiegeEngine(t, answers), his: startSiegeEngine(t, smallResults)}
	s.Gateway = gateway.Start(t, gateway.Config{
		Limits: limits, HandshakeTimeout: time.Second, Quotas: quotas,
		Away:     map[string]string{gateway.Cluster: s.engine.addr, "other": s.his.addr},
		Services: sessionService, Own: proxy.OwnLimits{Calls: mostCallsOpen},
	})
	s.alice, s.bob = s.Session("alice", sessions.Active), s.SessionOn("other", "bob", sessions.Active)
	s.caller, s.creds = proxytest.NewCaller(t, s.Dial), s.Credentials(s.bob, "bob")
	return s
}

// forget has the engines forget what they were asked.
func (s *siege) forget() {
	s.engine.counts(s.t)
	s.his.counts(s.t)
}

// live is how many of Alice's plans are at her engine.
func (s *siege) live() int { return int(s.engine.counts(s.t).Live) }

// work is one call of Bob's.
func (s *siege) work() { s.call(s.creds, sparkB, "bob") }

func (s *siege) call(creds []string, spark, user string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), proxytest.Patience)
	defer cancel()
	if _, err := s.caller.Unary(proxytest.With(ctx, creds...), s.method, proxytest.Request(spark, user)); err != nil {
		s.t.Errorf("a call of %s: %v", user, err)
	}
}

// begin starts the attack and returns when its first frames are sent. end stops it.
func (s *siege) begin() (end func(last bool)) {
	token := s.Keys.Session(string(s.bob), "bob")
	s.hers = s.Credentials(s.alice, "alice")
	text, err := json.Marshal(orders{s.at.name, s.Addr(), s.hers, string(s.bob), proxytest.FlipLastBit(token)})
	if err != nil {
		s.t.Fatal(err)
	}
	cmd, in, out := startOwn(s.t, attackEnv, string(text))
	s.t.Cleanup(func() { // where end did not
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("begun"))); err != nil {
		s.t.Fatalf("the attack does not begin: %v", err)
	}
	if s.at.large {
		s.fill()
	}
	return func(last bool) {
		if last && s.at.leaves {
			_ = cmd.Process.Signal(syscall.SIGSTOP)
			return
		}
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("the attacker: %v", err)
		}
	}
}

// fill waits until the engine has as many of Alice's plans as it is about to get, which
// may be less than she sends.
func (s *siege) fill() {
	most, begun := 0, time.Now()
	for grew := begun; most < fairStreams && time.Since(begun) < proxytest.Patience; time.Sleep(time.Millisecond) {
		if n := s.live(); n > most {
			most, grew = n, time.Now()
		}
		if most > 0 && time.Since(grew) > 200*time.Millisecond {
			return
		}
	}
}

func TestAttacksLeaveTheOtherTenantAlone(t *testing.T) {
	for _, at := range attacks() {
		t.Run(at.name, func(t *testing.T) {
			s := newSiege(t, at, proxy.Quotas{})
			s.work()
			if at.engine == "" {
				s.call(s.Credentials(s.alice, "alice"), spark1, "alice") // binds her Spark session: the registry is left alone then
			}
			goroutines, held := runtime.NumGoroutine(), heap()
			var idle, attacked proxytest.Pace
			var quiet, beside waits
			most, grown := 0, 0
			slowed := func() bool { return !proxytest.Raced && attacked.Median()*mostSlower < idle.Median() }
			// Slices are added until the medians say what they have to, or never will.
			for n := 0; n < *sieges || n < 6**sieges && slowed(); n++ {
				idle.Take(func() { quiet.add(s.work) })
				end := s.begin()
				attacked.Take(func() {
					beside.add(s.work)
					most = max(most, runtime.NumGoroutine()-goroutines)
				})
				end(false)
				s.forget()
				time.Sleep(50 * time.Millisecond) // what she has sent is not of the next slice
			}
			end := s.begin()
			s.work()
			grown = heap() - held
			end(true)
			seen := s.engine.counts(t)
			t.Logf("%d calls in place of %d, %d KiB, %d goroutines, %d calls at once; his wait is %v in place of %v",
				attacked.Median(), idle.Median(), grown>>10, most, seen.Peak, beside, quiet)
			if slowed() {
				t.Errorf("the other tenant did %v calls in place of %v", attacked, idle)
			}
			connections := max(1, at.conns)
			if at.again {
				connections = 3
			}
			crowded := !proxytest.Raced && seen.Peak > int64(connections)*mostCalls
			if grown > connections*mostHeld || most > mostGoroutines || crowded {
				t.Errorf("it held %d KiB, %d goroutines, %d calls at the engine", grown>>10, most, seen.Peak)
			}
			if seen.Strange != 0 {
				t.Errorf("%d calls at the engine that should not have come", seen.Strange)
			}
			s.settle("calls at the engine", 0, s.live)
			s.settle("goroutines", goroutines+20, runtime.NumGoroutine)
			s.settle("bytes", held+16<<20, func() int {
				s.forget()
				return heap()
			})
		})
	}
}

// waits is how long each of some calls took.
type waits []time.Duration

func (w *waits) add(call func()) {
	begun := time.Now()
	call()
	*w = append(*w, time.Since(begun))
}

// String is the median and the 99th percentile.
func (w waits) String() string {
	if len(w) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(w))
	at := func(hundredth int) time.Duration {
		return sorted[len(sorted)*hundredth/100].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%v, p99 %v", at(50), at(99))
}

func (s *siege) settle(what string, most int, count func() int) {
	s.t.Helper()
	settle(s.t, what, most, count)
}

// settle waits until there are no more of it than most.
func settle(t *testing.T, what string, most int, count func() int) {
	t.Helper()
	n := 0
	for begun := time.Now(); time.Since(begun) < proxytest.Patience; time.Sleep(10 * time.Millisecond) {
		if n = count(); n <= most {
			return
		}
	}
	var held strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&held, 1)
	t.Errorf("%d %s stay, want at most %d\n%s", n, what, most, held.String())
}

// The tests that the rows name exist.
func TestAttacksAreHeldSomewhere(t *testing.T) {
	var tests strings.Builder
	for _, pattern := range []string{"*_test.go", "relay/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 10 {
			t.Fatalf("%d files of %s: %v", len(files), pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(text)
		}
	}
	name := regexp.MustCompile(`^Test\w+$`)
	for _, at := range attacks() {
		for _, held := range strings.Fields(at.held) {
			if !name.MatchString(held) || !strings.Contains(tests.String(), "\nfunc "+held+"(") {
				t.Errorf("%s: there is no test %s", at.name, held)
			}
		}
		if at.held == "" {
			t.Errorf("%s: held by no test", at.name)
		}
	}
}
