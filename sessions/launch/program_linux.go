package launch

import "syscall"

// OwnGroup is for a program that shall be signalled as one with its children,
// and that the kernel ends with the thread that started it.
func OwnGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
