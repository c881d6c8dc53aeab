package proxy_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
)

// siegeEngine is the engine of one tenant: a process of its own, so that what it spends
// on a call is not taken from the gateway's scheduler.
type siegeEngine struct {
	addr string
	in   io.WriteCloser
	out  *bufio.Reader
}

// engineCounts is what the engine has seen of Alice's plans.
type engineCounts struct {
	Live, Peak int64 // at once: now, and the most
	Strange    int64 // that should never have come
}

const (
	// siegeEngineEnv makes the test binary an engine, and says how its plans are answered:
	// with small or large results, or by a flood of this name.
	siegeEngineEnv = "SCONCE_TEST_SIEGE_ENGINE"
	smallResults   = "small"
	largeResults   = "large"
)

func startSiegeEngine(t *testing.T, how string) *siegeEngine {
	t.Helper()
	cmd, in, out := startOwn(t, siegeEngineEnv, how)
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	e := &siegeEngine{in: in, out: bufio.NewReader(out)}
	e.read(t, &e.addr)
	return e
}

// counts asks the engine, which forgets all calls that are over.
func (e *siegeEngine) counts(t *testing.T) (n engineCounts) {
	t.Helper()
	if _, err := fmt.Fprintln(e.in); err != nil {
		t.Fatalf("the engine: %v", err)
	}
	e.read(t, &n)
	return n
}

func (e *siegeEngine) read(t *testing.T, what any) {
	t.Helper()
	text, err := e.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, what)
	}
	if err != nil {
		t.Fatalf("the engine: %v", err)
	}
}

// startOwn starts this test binary as another program of main_test.go, which an
// environment variable asks for. Whoever starts it ends it.
func startOwn(t *testing.T, env, value string) (cmd *exec.Cmd, in io.WriteCloser, out io.Reader) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this test
	cmd.Env = append(os.Environ(), env+"="+value, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	return cmd, in, out
}

// ownProcess is the testing.TB of a process that ends with its standard input.
type ownProcess struct{ testing.TB }

func (ownProcess) Helper()        {}
func (ownProcess) Cleanup(func()) {}
func (ownProcess) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

// beSiegeEngine is main of an engine's process.
func beSiegeEngine(how string) {
	if flood, hostile := proxytest.EngineFloods()[how]; hostile {
		beHostileEngine(flood)
		return
	}
	p := &plans{large: how == largeResults}
	spark := proxytest.StartSpark(ownProcess{}, proxytest.SparkConfig{Token: gateway.Token})
	spark.Script("ExecutePlan", p.run)
	report(spark.Addr(), func() engineCounts {
		spark.Forget()
		return engineCounts{p.live.Load(), p.peak.Load(), p.strange.Load()}
	})
}

// report says where an engine is, and at each line what it has seen.
func report(addr string, counts func() engineCounts) {
	say := json.NewEncoder(os.Stdout)
	err := say.Encode(addr)
	for asked := bufio.NewScanner(os.Stdin); err == nil && asked.Scan(); {
		err = say.Encode(counts())
	}
}

// beHostileEngine answers each plan by a flood, for as long as the connection lasts.
func beHostileEngine(flood proxytest.Flood) {
	ln := proxytest.TCP(ownProcess{})
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				b, ok := proxytest.TryServer(ownProcess{}, conn, proxytest.PeerConfig{Lenient: true, ManualWindow: true, Discard: true})
				for ok && b.Err() == nil && !b.Closed() {
					if s, came := b.TryAccept(); came {
						flood(b, s.ID, func(send func()) {
							for b.Err() == nil && !b.Closed() {
								send()
							}
						})
					}
					time.Sleep(100 * time.Microsecond)
				}
			}()
		}
	}()
	report(ln.Addr().String(), func() engineCounts { return engineCounts{} })
}

// plans are Alice's at her engine.
type plans struct {
	large               bool
	live, peak, strange atomic.Int64
}

// batch is one of a large result.
var batch = make([]byte, 256<<10)

// run is what the engine does with a plan.
func (p *plans) run(x *proxytest.Exchange) error {
	n := p.live.Add(1)
	defer p.live.Add(-1)
	for old := p.peak.Load(); n > old && !p.peak.CompareAndSwap(old, n); old = p.peak.Load() {
	}
	x.Drain()
	for _, m := range x.Messages() {
		if proxytest.UserID(m) != "alice" || len(x.Metadata.Get("x-session-id")) > 0 {
			p.strange.Add(1)
		}
	}
	if !p.large {
		return x.Send(make([]byte, 1000))
	}
	for {
		if err := x.Send(batch); err != nil {
			return status.FromContextError(x.Context().Err()).Err()
		}
	}
}
