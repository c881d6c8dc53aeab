//go:build !race

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

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// process is one more replica of a gateway, as a process of its own: what it holds in
// memory is its own, and not the test's. Under the race detector that says nothing.
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
	p := &process{t: s.t, addr: freeAddress(s.t), certs: proxytest.NewCerts(s.t)}
	admin := freeAddress(s.t)
	p.cmd = exec.Command("sconce", "serve", "--config", s.file,
		"--set", "listen="+p.addr, "--set", "admin.listen="+admin, "--set", "log.level=warn",
		"--set", "tls.cert="+p.certs.CertFile, "--set", "tls.key="+p.certs.KeyFile,
		"--set", "limits.connections_per_ip=0",
		"--set", "limits.token_requests=0", "--set", "limits.session_requests=0", "--set", "limits.owner_requests=0")
	p.cmd.Env = append(os.Environ(), env...)
	log := &lockedBuffer{}
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		for range 2 {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		}
		_ = p.cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("%s: %v\n%s", p.addr, p.cmd.ProcessState, log)
		}
	})
	await(s.t, func() bool {
		code, _, err := httpGet(s.t.Context(), "http://"+admin+"/readyz")
		return err == nil && code == http.StatusOK
	}, "a replica that is ready")
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
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
