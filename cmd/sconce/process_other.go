//go:build unix && !linux

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup: only Linux ends a program with its parent.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func signalGroup(cmd *exec.Cmd, s syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, s) }
