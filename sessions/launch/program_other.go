//go:build unix && !linux

package launch

import "syscall"

// OwnGroup is for a program that shall be signalled as one with its children.
// Only Linux ends a program with its parent.
func OwnGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
