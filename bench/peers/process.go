package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Process is a running peer.
type Process struct {
	// Addr is where it listens.
	Addr string

	cmd  *exec.Cmd
	said *tail
	done chan struct{} // closed when it has ended
	err  error         // how; after done
}

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 5 * time.Second
	pollEvery    = 10 * time.Millisecond
)

// Start runs a program in the folder dir, in a process group of its own, and
// waits until addr accepts connections. ctx bounds the waiting alone; Stop ends
// the program.
func Start(ctx context.Context, dir, addr string, argv ...string) (*Process, error) {
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // what to run is named in this package
	p := &Process{Addr: addr, cmd: cmd, said: &tail{}, done: make(chan struct{})}
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = p.said, p.said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	go p.wait()
	if err := p.listening(ctx); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%s: %w\n%s", argv[0], err, p.said)
	}
	return p, nil
}

func (p *Process) wait() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// PID is the process at the root of the peer's tree.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Said returns the end of what it wrote to its standard outputs.
func (p *Process) Said() string { return p.said.String() }

func (p *Process) listening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var dialer net.Dialer
	for {
		nc, err := dialer.DialContext(ctx, "tcp", p.Addr)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended before it listened: %w", errors.Join(p.err, err))
		case <-ctx.Done():
			return fmt.Errorf("it does not listen on %s: %w", p.Addr, err)
		case <-time.After(pollEvery):
		}
	}
}

// Stop ends the process and everything it started, and waits for it.
func (p *Process) Stop() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
	}
	p.signal(syscall.SIGKILL)
	<-p.done
}

// signal goes to the whole process group; one that has ended is no error.
func (p *Process) signal(s syscall.Signal) { _ = syscall.Kill(-p.PID(), s) }

// The ports that FreePort looks among: below those that systems give to connections that
// go out (Linux from 32768, others from 49152), so that none of those takes a port between
// its choice and its use.
const firstPort, ports = 16384, 16384

// FreePort returns a loopback port that nobody listens on.
func FreePort() (int, error) {
	for range ports {
		port := firstPort + rand.IntN(ports) //nolint:gosec // no secret
		ln, err := net.Listen("tcp", loopback(port))
		if err == nil {
			return port, ln.Close()
		}
	}
	return 0, errors.New("no port of loopback is free")
}

// loopback is the address of a port on this machine.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// tail keeps the last few kilobytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailLen = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - tailLen; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
