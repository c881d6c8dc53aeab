package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// child is one process that the test started, with its process group.
type child struct {
	name string
	cmd  *exec.Cmd
	log  string         // file of its stdout and stderr
	stop syscall.Signal // asks it to end
	done chan struct{}  // closed when it has ended
}

// starter runs every fork on one OS thread that lives as long as the test
// binary: Linux sends PDEATHSIG when the thread that forked ends, and the Go
// runtime may end any other.
var starter = make(chan func())

func runStarter() {
	runtime.LockOSThread()
	for start := range starter {
		start()
	}
}

func startCmd(cmd *exec.Cmd) error {
	attr := childAttr()
	if more := cmd.SysProcAttr; more != nil {
		attr.Chroot, attr.Credential = more.Chroot, more.Credential
	}
	cmd.SysProcAttr = attr
	failed := make(chan error)
	starter <- func() { failed <- cmd.Start() }
	return <-failed
}

// startChild starts a server whose output goes to <dir>/<name>.log.
func startChild(dir, name string, stop syscall.Signal, cmd *exec.Cmd) (*child, error) {
	c := &child{name: name, cmd: cmd, stop: stop, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.Dir == "" {
		cmd.Dir = dir
	}
	if err := startCmd(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go c.wait()
	return c, nil
}

func (c *child) wait() {
	_ = c.cmd.Wait() // how it ended is in ProcessState
	c.search()
	close(c.done)
}

// end asks the child to stop, and kills its whole group if it does not.
func (c *child) end(patience time.Duration) {
	_ = c.cmd.Process.Signal(c.stop)
	select {
	case <-c.done:
	case <-time.After(patience):
	}
	killGroup(c.cmd.Process.Pid)
	<-c.done
}

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// ready waits until probe says yes, the child ends or the time is over.
func (c *child) ready(limit time.Duration, probe func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s ended with %v:\n%s", c.name, c.cmd.ProcessState, c.tail())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s was not ready after %v: %w\n%s", c.name, limit, err, c.tail())
		}
	}
}

// tail is the end of the child's log, without secrets.
func (c *child) tail() string { return redact(tailOf(c.log)) }

func tailOf(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// runLimited runs one client process with input on stdin, and kills its group
// when the limit is over: with a bad certificate PySpark redials in silence for
// ten minutes.
func runLimited(cmd *exec.Cmd, input string, limit time.Duration) (stdout string, err error) {
	var out strings.Builder
	dir, err := os.MkdirTemp("", "sconce-e2e-client")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	noise, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		return "", err
	}
	defer noise.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, noise
	if err := startCmd(cmd); err != nil {
		return "", err
	}
	clock := time.AfterFunc(limit, func() { killGroup(cmd.Process.Pid) })
	err = cmd.Wait()
	killGroup(cmd.Process.Pid) // what it left behind
	if !clock.Stop() {
		err = fmt.Errorf("killed after %v", limit)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, redact(tailOf(noise.Name())))
	}
	return out.String(), err
}

// dialable is a probe: something listens there.
func dialable(address string) func() error {
	return func() error {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
