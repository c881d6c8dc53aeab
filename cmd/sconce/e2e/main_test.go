package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// world is everything that runs while the tests do.
type world struct {
	dir, cache string
	redis      *child

	redisAddress string
	sail, spark  *engine
	gate         *gateway
}

// the is the world of this run; nil with -short.
var the *world

func TestMain(m *testing.M) {
	// Both engines at once, beside clients that only wait: also on two cores.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err) // the testing package defines it
	}
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run())
	}
	os.Exit(runIn(m))
}

func runIn(m *testing.M) int {
	go runStarter()
	w, err := newWorld()
	if w != nil {
		defer w.end()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", redact(err.Error()))
		return 1
	}
	the = w
	code := m.Run()
	if err := errors.Join(w.leaked(), w.gate.idle(), w.gate.small()); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "e2e: the last lines of sconce's log:\n%s\n", w.gate.child.tail())
	}
	return code
}

// needs is the first line of every test: the world, or a skip with -short.
func needs(t *testing.T) *world {
	t.Helper()
	if the == nil {
		t.Skip("end to end: left out by -short")
	}
	return the
}

// newWorld starts Redis, both engines at once, and then the gateway. What it
// returns must be ended, also beside an error.
func newWorld() (*world, error) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return nil, err
	}
	w := &world{cache: filepath.Join(root, ".cache", "e2e")}
	if err := w.prepared(); err != nil {
		return nil, err
	}
	if w.dir, err = os.MkdirTemp("", "sconce-e2e"); err != nil {
		return nil, err
	}
	binary := filepath.Join(w.dir, "sconce")
	build := exec.Command("go", "build", "-o", binary, "github.com/sconce-dev/sconce/cmd/sconce")
	if out, err := build.CombinedOutput(); err != nil {
		return w, fmt.Errorf("build sconce: %w\n%s", err, out)
	}
	return w, w.start(binary)
}

func (w *world) start(binary string) error {
	begun := time.Now()
	type started struct {
		*engine
		error
	}
	spark := make(chan started, 1)
	go func() {
		e, err := startSpark(w.dir, w.cache)
		spark <- started{e, err}
	}()
	var redis string
	var err, sailErr error
	w.redis, redis, err = startRedis(w.dir, w.cache)
	w.sail, sailErr = startSail(w.dir, w.cache)
	s := <-spark
	w.spark = s.engine
	if err := errors.Join(err, sailErr, s.error); err != nil {
		return err
	}
	w.redisAddress = redis
	if w.gate, err = newGateway(w.dir, binary); err != nil {
		return err
	}
	if err := w.gate.serve(front(redis, w.sail, w.spark)); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "e2e: Redis, Sail, Spark and sconce are up after %v\n", time.Since(begun).Round(time.Second))
	return nil
}

// end stops every child, the gateway first.
func (w *world) end() {
	if w.gate != nil && w.gate.child != nil {
		w.gate.child.end(20 * time.Second)
	}
	for _, e := range []*engine{w.sail, w.spark} {
		if e != nil && e.child != nil {
			e.child.end(20 * time.Second)
		}
		if e != nil && e.link != nil {
			e.link.close()
		}
	}
	if w.redis != nil {
		w.redis.end(10 * time.Second)
	}
	if os.Getenv("SCONCE_E2E_KEEP") == "" {
		os.RemoveAll(w.dir)
	} else {
		fmt.Fprintln(os.Stderr, "e2e: logs are kept in", w.dir)
	}
}

// prepared says what setup.sh has not made yet.
func (w *world) prepared() error {
	var missing []string
	for _, part := range []string{"venv/spark", "venv/sail", "venv/py40", "venv/py35", "venv/py34", "jvm"} {
		if _, err := os.Stat(filepath.Join(w.cache, part, ".stamp")); err != nil {
			missing = append(missing, part)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s missing in %s: run `make test`, or cmd/sconce/e2e/setup.sh", strings.Join(missing, ", "), w.cache)
	}
	return nil
}
