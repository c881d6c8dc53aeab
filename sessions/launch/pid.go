package launch

import (
	"os"
	"syscall"
)

// process names one process for ever: a pid alone is used again.
type process struct {
	PID int `json:"pid"`
	// Start is when it began, in ticks since the machine did; 0 = not known.
	Start uint64 `json:"start"`
}

// self and others: what the system says of a process now.
func identify(pid int) process { return process{PID: pid, Start: startTime(pid)} }

// signal sends s to the process, and to nothing else: the handle is taken before
// the start is compared, so that it stays with whom was compared.
func (p process) signal(s syscall.Signal) {
	if p.PID <= 1 {
		return
	}
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return
	}
	defer handle.Release() //nolint:errcheck // it only closes
	if p.Start != 0 && startTime(p.PID) != p.Start {
		return
	}
	_ = handle.Signal(s)
}

func signalGroup(pid int, s syscall.Signal) { _ = syscall.Kill(-pid, s) }
