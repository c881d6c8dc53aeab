package launch

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTime is field 22 of /proc/PID/stat (proc(5)); 0 = there is no such process.
func startTime(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the program's name, which may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0
	}
	n, _ := strconv.ParseUint(fields[19], 10, 64)
	return n
}

// marked lists the processes that carry an engine's mark in their environment:
// the engine and what it started, also what left its process group.
func marked(mark string) (list []process) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p := identify(pid)
		if carries(pid, mark) {
			list = append(list, p)
		}
	}
	return list
}

func carries(pid int, mark string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	return bytes.Contains(append([]byte{0}, env...), []byte("\x00"+mark+"\x00"))
}

// sweep kills what an engine left, and returns when nothing of it runs. Something
// that forks while it is looked at is found in the next round.
func sweep(mark string) {
	for range 50 {
		left := marked(mark)
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			p.signal(syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// listens says whether somebody with the mark listens on a loopback port. Only
// he may be taken for the engine: whoever else got the port first would be handed
// its requests.
func listens(mark string, port int) bool {
	sockets := listeners(port)
	for _, p := range marked(mark) {
		dir := fmt.Sprintf("/proc/%d/fd/", p.PID)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if to, err := os.Readlink(dir + e.Name()); err == nil && sockets[to] {
				return true
			}
		}
	}
	return false
}

// listeners are the sockets that listen on a port, as links of /proc/PID/fd name them.
func listeners(port int) map[string]bool {
	found := map[string]bool{}
	want := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			// local address in field 1, state in 3 (0A = listening), inode in 9.
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], want) {
				found["socket:["+f[9]+"]"] = true
			}
		}
	}
	return found
}
