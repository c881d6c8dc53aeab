package launch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/launch"
	"github.com/sconce-dev/sconce/sessions/launch/launchtest"
)

// TestMain makes the test binary stand for three programs: a keeper, an engine,
// and a Sconce that is killed while it launches.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "keep-engine":
			if err := launch.Keep(os.Stdin); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		case "engine":
			launchtest.Engine(os.Args[2:])
			return
		case "launch":
			launchAlone(os.Args[2:])
			return
		}
	}
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

// fake is a configuration of an engine that is this test binary.
func fake(dir string, how ...string) launch.Config {
	return launch.Config{
		Cluster: "fake", StateDir: dir, Keeper: []string{self(), "keep-engine"}, OrphanAfter: 2 * time.Second,
		Engine: launch.Engine{
			Command:      append([]string{self(), "engine", "{port}"}, how...),
			StartTimeout: 20 * time.Second, StopTimeout: 5 * time.Second,
		},
	}
}

func newProcess(t *testing.T, cfg launch.Config) *launch.Process {
	t.Helper()
	p, err := launch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a launcher for as long as the test.
func run(t *testing.T, l interface{ Run(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// nothingLeft ends a test: no process carries the mark of an engine in dir.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		await(t, func() bool { return len(pids(t, dir)) == 0 }, "the end of all keepers and engines")
	})
}

// pids are the processes that were started in a folder below dir.
func pids(t *testing.T, dir string) (list []int) {
	t.Helper()
	cwds, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range cwds {
		to, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(to, dir+"/") {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			list = append(list, pid)
		}
	}
	return list
}

// await waits for something of another process, which no channel tells.
func await(t *testing.T, done func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestConformance(t *testing.T) {
	for name, how := range map[string][]string{"quick": nil, "slow": {launchtest.Slow}, "forks": {launchtest.Forks}} {
		t.Run("Process/"+name, func(t *testing.T) {
			dir := t.TempDir()
			nothingLeft(t, dir)
			launchtest.Run(t, launchtest.Subject{
				Cluster: "fake",
				New: func(t *testing.T) sessions.Launcher {
					p := newProcess(t, fake(dir, how...))
					run(t, p)
					return p
				},
				Kill: func(t *testing.T, in sessions.Instance) { kill(t, enginePID(t, dir, in)) },
			})
		})
	}
	t.Run("Pool", func(t *testing.T) {
		dir := t.TempDir()
		nothingLeft(t, dir)
		launchtest.Run(t, launchtest.Subject{
			Cluster: "fake",
			New: func(t *testing.T) sessions.Launcher {
				return launch.NewPool(launch.PoolConfig{Stock: newProcess(t, fake(dir)), Cluster: "fake", Size: 1, KeepFor: time.Hour})
			},
			Kill: func(t *testing.T, in sessions.Instance) { kill(t, enginePID(t, dir, in)) },
		})
	})
}

// enginePID reads what the keeper wrote, which an engine that serves at once may be
// quicker than.
func enginePID(t *testing.T, dir string, in sessions.Instance) int {
	t.Helper()
	var b []byte
	await(t, func() (there bool) {
		var err error
		b, err = os.ReadFile(filepath.Join(dir, "fake", in.ID, "pid"))
		return err == nil
	}, "the engine's pid")
	var p struct{ PID int }
	if err := json.Unmarshal(b, &p); err != nil || p.PID < 2 {
		t.Fatalf("%s: %v", b, err)
	}
	return p.PID
}

func keeperPID(t *testing.T, dir string, in sessions.Instance) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "fake", in.ID, "engine.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Keeper struct{ PID int } }
	if err := json.Unmarshal(b, &r); err != nil || r.Keeper.PID < 2 {
		t.Fatalf("%s: %v", b, err)
	}
	return r.Keeper.PID
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// launchAlone is a Sconce that is killed: it launches an engine, says so, and
// waits; with "within" it stays in the middle of the launch.
func launchAlone(args []string) {
	dir, when := args[0], args[1]
	cfg := fake(dir)
	if when == "within" {
		cfg = fake(dir, launchtest.Never)
	}
	p, err := launch.New(cfg)
	if err != nil {
		panic(err)
	}
	in, err := p.Launch(context.Background(), sessions.LaunchSpec{Cluster: "fake", Session: "s-1", Generation: 2}, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(in.ID)
	select {}
}

func itoa(n int) string { return strconv.Itoa(n) }
