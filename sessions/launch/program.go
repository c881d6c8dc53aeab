package launch

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

// Program is one that lives no longer than we do: Stop ends it, and so does the
// kernel should we be killed.
type Program struct {
	// Log is the file with all that it said.
	Log string

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; to be read after done
}

// Begin starts cmd, in a process group of its own so that a Ctrl-C in the
// terminal reaches us alone and we stop things in order. What was in the log file
// goes.
func Begin(cmd *exec.Cmd, log string) (*Program, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = OwnGroup()
	p := &Program{cmd: cmd, Log: log, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	return p, <-started
}

// run keeps one thread from the start of the program to its end, because to the
// kernel the parent is that thread, and its end would end the program.
func (p *Program) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

// Done is closed when the program has ended.
func (p *Program) Done() <-chan struct{} { return p.done }

// Err says how it ended; nil = with exit status 0. It waits for that.
func (p *Program) Err() error {
	<-p.done
	return p.err
}

// Stop asks with a signal and, when that did not help within patience, kills
// the whole group.
func (p *Program) Stop(ask syscall.Signal, patience time.Duration) {
	signalGroup(p.cmd.Process.Pid, ask)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	signalGroup(p.cmd.Process.Pid, syscall.SIGKILL) // and what it left behind
	<-p.done
}

// Failure words the end of a program that should have lived.
func (p *Program) Failure(name string) error {
	err := p.Err()
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("%s stopped: %w: the end of %s:\n%s", name, err, p.Log, p.Tail(12))
}

// Tail returns the last lines of the log.
func (p *Program) Tail(lines int) string {
	text, err := tail(p.Log, lines)
	if err != nil {
		return err.Error()
	}
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// tailBytes is how much of a log's end is read at most.
const tailBytes = 16 << 10

// tail returns the last lines of a file.
func tail(path string, lines int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	b := make([]byte, min(info.Size(), tailBytes))
	n, err := f.ReadAt(b, info.Size()-int64(len(b)))
	if n == 0 && len(b) > 0 {
		return "", err
	}
	all := strings.Split(strings.TrimRight(string(b[:n]), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n"), nil
}
