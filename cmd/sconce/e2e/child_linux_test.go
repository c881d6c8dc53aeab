package e2e

import "syscall"

// childAttr puts a child into a process group of its own, so that its own
// children end with it, and has the kernel kill it if this test binary dies.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
