package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/sconce-dev/sconce/cmd/sconce/scripttest"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/sessions/launch"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// process is one more replica of a gateway, as a process of its own: what it holds in
// memory is its own, and not the test's.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	certs *proxytest.Certs
	addr  string
}

// process starts one, with this in its environment beside our own, and with limits that
// are none of the test's business off: all its clients are one person on one machine.
func (s *served) process(env ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, addr: storetest.FreeAddress(s.t), certs: proxytest.NewCerts(s.t)}
	admin := storetest.FreeAddress(s.t)
	p.cmd = exec.CommandContext(s.t.Context(), "sconce", "serve", "--config", s.file,
		"--set", "listen="+p.addr, "--set", "admin.listen="+admin, "--set", "log.level=warn",
		"--set", "tls.cert="+p.certs.CertFile, "--set", "tls.key="+p.certs.KeyFile,
		"--set", "limits.connections_per_ip=0",
		"--set", "limits.token_requests=0", "--set", "limits.session_requests=0", "--set", "limits.owner_requests=0")
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = launch.OwnGroup() // it ends with the test, even one that is killed
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = proxytest.Patience
	log := &lockedBuffer{}
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = p.cmd.Wait() // the test is over, and so is what p.cmd may do
		if code := p.cmd.ProcessState.ExitCode(); code != exitDone {
			s.t.Errorf("a replica ended with %v", p.cmd.ProcessState) // a race is told so, too
		}
		if s.t.Failed() {
			s.t.Logf("%s: %v\n%s", p.addr, p.cmd.ProcessState, log)
		}
	})
	await(s.t, func() bool {
		code, _, err := scripttest.Fetch(s.t.Context(), "http://"+admin+"/readyz")
		return err == nil && code == http.StatusOK
	}, "a replica that is ready")
	return p
}

// dial connects to its port.
func (p *process) dial(ctx context.Context, secure bool) (net.Conn, error) {
	if !secure {
		return new(net.Dialer).DialContext(ctx, "tcp", p.addr)
	}
	d := tls.Dialer{Config: p.certs.Client}
	return d.DialContext(ctx, "tcp", p.addr)
}

// caller is a client of its port.
func (p *process) caller(secure bool) *proxytest.Caller {
	return proxytest.NewCaller(p.t, func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, secure) })
}

// resident is how much of its memory is in RAM, and peak the most that ever was, in bytes.
func (p *process) resident() int { return p.memory("VmRSS") }
func (p *process) peak() int     { return p.memory("VmHWM") }

// fits ends the test if the process ever took more than that, before the machine suffers.
func (p *process) fits(most int) {
	p.t.Helper()
	if took := p.peak(); took > most && !proxytest.Raced {
		p.t.Fatalf("the gateway took %d MiB, and may take %d", took>>20, most>>20)
	}
}

func (p *process) memory(key string) int {
	p.t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	found := regexp.MustCompile(key + `:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		p.t.Fatalf("no %s of the process", key)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		p.t.Fatal(err)
	}
	return n << 10
}
