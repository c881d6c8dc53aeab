package proc

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "4242 (a (b) c) S 17 4242 4242 0 -1 4194304 900 0 0 0 250 75 0 0 20 0 9 0 100 0 0"
	st, err := parseStat(line)
	if err != nil {
		t.Fatal(err)
	}
	want := stat{parent: 17, user: 2500 * time.Millisecond, system: 750 * time.Millisecond}
	if st != want {
		t.Errorf("got %+v, want %+v", st, want)
	}
	if _, err := parseStat("rubbish"); err == nil {
		t.Error("rubbish was parsed")
	}
}

func TestReadSeesWorkAndMemory(t *testing.T) {
	self := []int{os.Getpid()}
	before, err := Read(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := ResetPeak(self); err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 64<<20)
	sum := 0
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		for i := range held {
			held[i]++
			sum += int(held[i])
		}
	}
	after, err := Read(self)
	if err != nil {
		t.Fatal(err)
	}
	if used := after.Sub(before); used.CPU() < 50*time.Millisecond {
		t.Errorf("CPU %v after 200 ms of work (sum %d)", used.CPU(), sum)
	}
	if after.Peak-before.RSS < 60<<20 {
		t.Errorf("peak grew by %d bytes, 64 MiB were touched", after.Peak-before.RSS)
	}
}

func TestCPUFallsBackToTicksWhenThreadsEnded(t *testing.T) {
	for _, tc := range []struct {
		name string
		u    Usage
		want time.Duration
	}{
		{"exact", Usage{User: 10 * time.Millisecond, Run: 17 * time.Millisecond}, 17 * time.Millisecond},
		{"rounded up", Usage{User: 20 * time.Millisecond, Run: 17 * time.Millisecond}, 17 * time.Millisecond},
		{"threads ended", Usage{User: time.Second, System: time.Second, Run: time.Second}, 2 * time.Second},
		{"no schedstat", Usage{User: time.Second}, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.u.CPU(); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestTreeHasChildren(t *testing.T) {
	cmd := exec.Command("sleep", "30")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	tree, err := Tree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if tree[0] != os.Getpid() || !slices.Contains(tree, cmd.Process.Pid) {
		t.Errorf("tree %v lacks child %d", tree, cmd.Process.Pid)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := Read([]int{cmd.Process.Pid}); err == nil {
		t.Error("a process that has ended was read")
	}
}
