package launch_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/launch"
	"github.com/sconce-dev/sconce/sessions/launch/launchtest"
)

var spec = sessions.LaunchSpec{Cluster: "fake", Session: "s-1", Generation: 2, KeepFor: time.Hour}

func mustLaunch(t *testing.T, l sessions.Launcher) sessions.Instance {
	t.Helper()
	in, err := l.Launch(t.Context(), spec, nil)
	if err != nil {
		var le *sessions.LaunchError
		errors.As(err, &le)
		t.Fatalf("%v: %+v", err, le)
	}
	return in
}

// failed is the error of a launch that must fail, and leave nothing.
func failed(t *testing.T, cfg launch.Config) *sessions.LaunchError {
	t.Helper()
	nothingLeft(t, cfg.StateDir)
	_, err := newProcess(t, cfg).Launch(t.Context(), spec, nil)
	var le *sessions.LaunchError
	if !errors.As(err, &le) {
		t.Fatalf("got %v, want a LaunchError", err)
	}
	if strings.Contains(le.Reason, "/") || strings.Contains(le.Log, cfg.StateDir) {
		t.Errorf("a path is shown to the owner: %+v", le)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.StateDir, "fake", "fake-*")); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	return le
}

func TestEngineThatDiesAtItsStart(t *testing.T) {
	le := failed(t, fake(t.TempDir(), launchtest.Dies))
	if !strings.Contains(le.Reason, "exit status 3") || !strings.HasSuffix(le.Log, "Error: no such catalog") {
		t.Errorf("got %+v", le)
	}
}

func TestEngineThatNeverServes(t *testing.T) {
	cfg := fake(t.TempDir(), launchtest.Never)
	cfg.Engine.StartTimeout = 5 * time.Second // its keeper and itself have begun by then
	if le := failed(t, cfg); !strings.Contains(le.Reason, "does not serve after 5s") || !strings.Contains(le.Log, "starts with never") {
		t.Errorf("got %+v", le)
	}
}

func TestPortThatIsTaken(t *testing.T) {
	if le := failed(t, fake(t.TempDir(), launchtest.Taken)); !strings.Contains(le.Reason, "port was taken") {
		t.Errorf("got %+v", le)
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	cfg := fake(t.TempDir())
	cfg.Engine.Command[0] = "/does/not/exist"
	if le := failed(t, cfg); !le.Final {
		t.Errorf("another try is said to help: %+v", le)
	}
}

// An engine sees what it is told to see, and nobody sees what is secret of that.
func TestEngineEnvironment(t *testing.T) {
	cfg := fake(t.TempDir(), launchtest.Prints)
	cfg.Environ = []string{"PATH=/bin", "SCONCE_REDIS_PASSWORD_FILE=x", "AWS_SECRET_ACCESS_KEY=gateways-own"}
	cfg.Engine.Env = []string{"STORE_SECRET=configured-secret", "SOME_KEY=configured-key", "KAFKA_JAAS=configured-jaas", "REGION=eu", "MY_TOKEN={token}"}
	le := failed(t, cfg)
	for _, want := range []string{"PATH=/bin", "REGION=eu", "STORE_SECRET=[redacted]", "SOME_KEY=[redacted]", "KAFKA_JAAS=[redacted]", "MY_TOKEN=[redacted]"} {
		if !strings.Contains(le.Log, want) {
			t.Errorf("the engine's environment lacks %s:\n%s", want, le.Log)
		}
	}
	for _, never := range []string{"SCONCE_REDIS", "gateways-own", "configured-secret", "configured-key", "configured-jaas"} {
		if strings.Contains(le.Log, never) {
			t.Errorf("%s is shown:\n%s", never, le.Log)
		}
	}
}

func TestStubbornEngineIsKilled(t *testing.T) {
	dir := t.TempDir()
	nothingLeft(t, dir)
	cfg := fake(dir, launchtest.Stubborn, launchtest.Forks)
	cfg.Engine.StopTimeout = 300 * time.Millisecond
	p := newProcess(t, cfg)
	in := mustLaunch(t, p)
	begun := time.Now()
	if err := p.Stop(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begun); d < 300*time.Millisecond {
		t.Errorf("killed after %s, before its time", d)
	}
	if left := pids(t, dir); len(left) > 0 {
		t.Errorf("%v still run", left)
	}
}

// Whatever is killed, nothing stays: the keeper, with children that left the group.
func TestKilledKeeperTakesItsEngineAlong(t *testing.T) {
	dir := t.TempDir()
	nothingLeft(t, dir)
	heard := make(chan error, 1)
	cfg := fake(dir, launchtest.Forks)
	cfg.OnExit = func(_ sessions.Instance, err error) { heard <- err }
	p := newProcess(t, cfg)
	run(t, p)
	in := mustLaunch(t, p)
	kill(t, keeperPID(t, dir, in))
	if err := <-heard; !errors.Is(err, sessions.ErrGone) || !strings.Contains(err.Error(), "keeper was killed") {
		t.Errorf("heard %v", err)
	}
	if err := p.Stop(t.Context(), in); err != nil {
		t.Error(err)
	}
}

func TestOnExit(t *testing.T) {
	dir := t.TempDir()
	nothingLeft(t, dir)
	heard := make(chan error, 2)
	cfg := fake(dir)
	cfg.OnExit = func(_ sessions.Instance, err error) { heard <- err }
	p := newProcess(t, cfg)
	run(t, p)
	stopped, dies := mustLaunch(t, p), mustLaunch(t, p)
	if err := p.Stop(t.Context(), stopped); err != nil {
		t.Fatal(err)
	}
	kill(t, enginePID(t, dir, dies))
	var ended *launch.Ended
	if err := <-heard; !errors.As(err, &ended) || ended.Reason != "signal: killed" || !strings.Contains(ended.Log, "the engine starts") {
		t.Errorf("heard %+v", err)
	}
	if len(heard) > 0 {
		t.Errorf("a stop that was asked for is news: %v", <-heard)
	}
}

// sconce runs another Sconce that launches, in a process of its own.
func sconce(t *testing.T, dir, when string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(self(), "launch", dir, when)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if when == "within" {
		return cmd, ""
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

func TestEngineOutlivesItsSconce(t *testing.T) {
	dir := t.TempDir()
	nothingLeft(t, dir)
	first, id := sconce(t, dir, "after")
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	next := newProcess(t, fake(dir))
	run(t, next)
	list, err := next.Running(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != id || list[0].Spec.Session != "s-1" || list[0].Spec.Generation != 2 {
		t.Fatalf("after the restart: %+v, %v", list, err)
	}
	time.Sleep(3 * time.Second) // longer than an orphan lives: the next one keeps it up
	if err := next.Alive(t.Context(), list[0].Instance); err != nil {
		t.Errorf("it did not go on: %v", err)
	}
	if err := next.Stop(t.Context(), list[0].Instance); err != nil {
		t.Error(err)
	}
}

func TestOrphanEnds(t *testing.T) {
	dir := t.TempDir()
	first, id := sconce(t, dir, "after")
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return len(pids(t, dir)) == 0 }, "the orphan's end")
	var err error
	await(t, func() bool {
		err = newProcess(t, fake(dir)).Alive(t.Context(), sessions.Instance{ID: id})
		return err != nil
	}, "its keeper's end")
	if !errors.Is(err, sessions.ErrGone) || !strings.Contains(err.Error(), "no Sconce was there for 2s") {
		t.Errorf("got %v", err)
	}
}

func TestSconceKilledWithinALaunch(t *testing.T) {
	dir := t.TempDir()
	first, _ := sconce(t, dir, "within")
	await(t, func() bool { return len(pids(t, dir)) >= 2 }, "keeper and engine")
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	await(t, func() bool { return len(pids(t, dir)) == 0 }, "their end")
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("it took %s", d)
	}
	list, err := newProcess(t, fake(dir)).Running(t.Context())
	if err != nil || len(list) > 0 {
		t.Errorf("running: %+v, %v", list, err)
	}
}

// A pid that is used again is not taken for the keeper.
func TestStopSparesAPidThatIsUsedAgain(t *testing.T) {
	dir := t.TempDir()
	nothingLeft(t, dir)
	p := newProcess(t, fake(dir))
	in := mustLaunch(t, p)
	bystander := exec.Command("/bin/sleep", "1000")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	keeper := keeperPID(t, dir, in)
	path := filepath.Join(dir, "fake", in.ID, "engine.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(b), `"pid":`+itoa(keeper), `"pid":`+itoa(bystander.Process.Pid), 1)
	if changed == string(b) {
		t.Fatalf("no pid in %s", b)
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context(), in); err != nil { // by its file
		t.Error(err)
	}
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the bystander: %v", err)
	}
}

func TestIDsAreNoPaths(t *testing.T) {
	p := newProcess(t, fake(t.TempDir()))
	for _, id := range []string{"", "..", "../fake", "/etc", "A", "a/b"} {
		in := sessions.Instance{ID: id}
		if err := p.Stop(t.Context(), in); err == nil {
			t.Errorf("%q was stopped", id)
		}
		if err := p.Alive(t.Context(), in); err == nil || errors.Is(err, sessions.ErrGone) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	nothingLeft(t, dir)
	p := newProcess(t, fake(dir))
	in := mustLaunch(t, p)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := p.Stop(t.Context(), in); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*launch.Config){
		"a cluster's name": func(c *launch.Config) { c.Cluster = "../x" },
		"no state folder":  func(c *launch.Config) { c.StateDir = "" },
		"no keeper":        func(c *launch.Config) { c.Keeper = nil },
		"no command":       func(c *launch.Config) { c.Engine.Command = nil },
		"a preset":         func(c *launch.Config) { c.Engine.Preset = "snail" },
	} {
		cfg := fake("x")
		spoil(&cfg)
		if _, err := launch.New(cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// An engine of another machine has an address that is something else's here.
func TestElsewhere(t *testing.T) {
	a, b := newProcess(t, fake(t.TempDir())), newProcess(t, fake(t.TempDir()))
	in, err := a.Launch(t.Context(), spec, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if !a.Reaches(in) || b.Reaches(in) {
		t.Errorf("reached from its own machine: %v, from another: %v", a.Reaches(in), b.Reaches(in))
	}
	if err := b.Alive(t.Context(), in); err == nil || errors.Is(err, sessions.ErrGone) {
		t.Errorf("the other one says of it: %v", err)
	}
	if err := b.Stop(t.Context(), in); err == nil {
		t.Error("the other one stopped it")
	}
	if err := a.Stop(t.Context(), in); err != nil {
		t.Error(err)
	}
}
