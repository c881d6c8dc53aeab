package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a program that lives no longer than we do: stop ends it, and so
// does the kernel should we be killed.
type process struct {
	cmd  *exec.Cmd
	log  string        // file with all that it said
	done chan struct{} // closed when it has ended
	err  error         // how; to be read after done
}

// startProcess starts cmd, in a process group of its own so that a Ctrl-C in
// the terminal reaches us alone and we stop things in order.
func startProcess(cmd *exec.Cmd, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = ownGroup()
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	return p, <-started
}

// run keeps one thread from the start of the program to its end, because to the
// kernel the parent is that thread, and its end would end the program.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

// stop asks with a signal and, when that did not help within patience, kills
// the whole group.
func (p *process) stop(ask syscall.Signal, patience time.Duration) {
	signalGroup(p.cmd, ask)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	signalGroup(p.cmd, syscall.SIGKILL) // and what it left behind
	<-p.done
}

// failure words the end of a program that should have lived.
func (p *process) failure(name string) error {
	err := p.err
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("%s stopped: %w: the end of %s:\n%s", name, err, p.log, p.tail(12))
}

// tail returns the last lines of the log.
func (p *process) tail(lines int) string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}
