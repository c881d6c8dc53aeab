package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tickLen is the length of a clock tick: USER_HZ is 100 on every Linux that Go runs on.
const tickLen = 10 * time.Millisecond

// Usage is what a tree of processes used since its processes began, and what
// it holds.
type Usage struct {
	// User and System are whole ticks.
	User, System time.Duration
	// Run is the time that the threads alive now have run, to the nanosecond.
	Run time.Duration
	// Switches are context switches, voluntary and not, of all threads.
	Switches int64
	// RSS is resident memory now, Peak the most since the last ResetPeak, in bytes.
	RSS, Peak int64
}

// CPU is user and system time together: the exact figure, unless threads have
// ended and taken theirs along.
func (u Usage) CPU() time.Duration {
	if ticks := u.User + u.System; ticks-u.Run > lost {
		return ticks
	}
	return u.Run
}

// lost is by how much the ticks may exceed the exact figure before it is
// taken to lack something: some processes' rounding.
const lost = 5 * tickLen

// Sub returns what was used between before and u. RSS and Peak stay those of u.
func (u Usage) Sub(before Usage) Usage {
	u.User -= before.User
	u.System -= before.System
	u.Run -= before.Run
	u.Switches -= before.Switches
	return u
}

// Tree returns the process and its descendants.
func Tree(pid int) ([]int, error) {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		id, err := strconv.Atoi(filepath.Base(e))
		if err != nil {
			continue
		}
		st, err := readStat(id)
		if err != nil {
			continue // it ended meanwhile
		}
		children[st.parent] = append(children[st.parent], id)
	}
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}

// Read adds up what the processes use. One that has ended is an error: its CPU
// would be missing.
func Read(pids []int) (Usage, error) {
	var u Usage
	for _, pid := range pids {
		if err := u.add(pid); err != nil {
			return Usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return u, nil
}

// ResetPeak makes Peak begin anew from what is resident now.
func ResetPeak(pids []int) error {
	for _, pid := range pids {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return fmt.Errorf("reset the memory peak of process %d: %w", pid, err)
		}
	}
	return nil
}

func (u *Usage) add(pid int) error {
	st, err := readStat(pid)
	if err != nil {
		return err
	}
	u.User += st.user
	u.System += st.system
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	u.RSS += field(status, "VmRSS") << 10
	u.Peak += field(status, "VmHWM") << 10
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return err
	}
	for _, t := range threads {
		if err := u.addThread(t); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// addThread adds what stands in a thread's folder.
func (u *Usage) addThread(folder string) error {
	status, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return err
	}
	u.Switches += field(status, "voluntary_ctxt_switches") + field(status, "nonvoluntary_ctxt_switches")
	sched, err := os.ReadFile(filepath.Join(folder, "schedstat"))
	if err != nil {
		return err // without this file in the kernel, Run stays 0 and CPU counts ticks
	}
	run, _, _ := strings.Cut(string(sched), " ")
	ns, err := strconv.ParseInt(run, 10, 64)
	if err != nil {
		return fmt.Errorf("%s/schedstat: %w", folder, errStat)
	}
	u.Run += time.Duration(ns)
	return nil
}

// field returns the number of a line of a status file, 0 if there is none.
func field(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		key, value, _ := strings.Cut(string(line), ":")
		if key != name {
			continue
		}
		n, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}

type stat struct {
	parent       int
	user, system time.Duration
}

// errStat says that a file of /proc did not look as proc(5) says.
var errStat = errors.New("unknown form")

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(b))
}

// parseStat reads the fields of proc(5); the command's name may hold any byte,
// so they are counted from the last parenthesis.
func parseStat(s string) (stat, error) {
	const parent, user, system = 1, 11, 12 // after the name
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) <= system {
		return stat{}, errStat
	}
	var n [3]int
	for i, at := range []int{parent, user, system} {
		v, err := strconv.Atoi(f[at])
		if err != nil {
			return stat{}, errStat
		}
		n[i] = v
	}
	return stat{
		parent: n[0],
		user:   time.Duration(n[1]) * tickLen,
		system: time.Duration(n[2]) * tickLen,
	}, nil
}
