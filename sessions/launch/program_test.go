package launch

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 30 * time.Second

func start(t *testing.T, script string) *Program {
	t.Helper()
	p, err := Begin(exec.Command("sh", "-c", script), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// said waits for a line in the log of a process.
func said(t *testing.T, p *Program, line string) {
	t.Helper()
	await(t, func() bool { return strings.Contains(p.Tail(10), line) }, line)
}

// await waits for something of another process, which no channel tells.
func await(t *testing.T, done func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestProgramStops(t *testing.T) {
	p := start(t, `trap 'echo asked; exit 0' INT; echo up; while :; do sleep 0.01; done`)
	said(t, p, "up")
	p.Stop(syscall.SIGINT, patience)
	if p.err != nil {
		t.Errorf("ended with %v", p.err)
	}
	said(t, p, "asked")
}

func TestProgramThatDoesNotListenIsKilledWithItsChildren(t *testing.T) {
	p := start(t, `trap '' INT; sleep 1000 & echo child $!; wait; wait; sleep 1000`)
	said(t, p, "child ")
	child, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(p.Tail(1)), "child ")))
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(syscall.SIGINT, 10*time.Millisecond)
	if p.err == nil || !strings.Contains(p.err.Error(), "killed") {
		t.Errorf("ended with %v", p.err)
	}
	await(t, func() bool { return !running(child) }, "its child to die")
}

// running says whether a process is there and no zombie.
func running(pid int) bool {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	_, rest, _ := strings.Cut(line, ") ")
	return rest != "" && !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestProgramFailureShowsItsLastWords(t *testing.T) {
	p := start(t, `echo first; echo last >&2; exit 7`)
	<-p.done
	err := p.Failure("Engine")
	if err == nil || !strings.Contains(err.Error(), "Engine stopped: exit status 7") || !strings.HasSuffix(err.Error(), "  first\n  last") {
		t.Errorf("got %v", err)
	}
}

func TestProgramThatCannotStart(t *testing.T) {
	if _, err := Begin(exec.Command("/does/not/exist"), filepath.Join(t.TempDir(), "log")); err == nil {
		t.Error("no error")
	}
}

func TestJavaVersion(t *testing.T) {
	for text, want := range map[string]int{
		`openjdk version "17.0.15" 2025-04-15`:     17,
		`java version "1.8.0_392"`:                 1,
		`openjdk version "21" 2023-09-19`:          21,
		`openjdk version "22-ea" 2024-03-19`:       22,
		`Error: could not find or load main class`: 0,
	} {
		if got := javaVersion(text); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}
