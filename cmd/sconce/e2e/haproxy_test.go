package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// startHAProxy starts a balancer of plain TCP before these addresses, and returns its
// own. It looks at them twice in a second; a connection that is refused goes to the
// next at once, and what is open stays.
func startHAProxy(t *testing.T, w *world, addresses ...string) string {
	t.Helper()
	binary, err := findProgram("haproxy", w.cache)
	if err != nil {
		t.Fatal(err)
	}
	port, err := storetest.FindPort()
	if err != nil {
		t.Fatal(err)
	}
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	var servers strings.Builder
	for i, address := range addresses {
		fmt.Fprintf(&servers, "  server replica%d %s check inter 500ms fall 1 rise 1\n", i, address)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "haproxy.cfg")
	settings := fmt.Sprintf(`defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
  retries 3
  option redispatch 1
listen sconce
  bind %s
  balance roundrobin
%s`, at, &servers)
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	balancer, err := startChild(dir, "haproxy", syscall.SIGTERM, exec.Command(binary, "-db", "-f", file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { balancer.end(5 * time.Second) })
	if err := balancer.ready(20*time.Second, dialable(at)); err != nil {
		t.Fatal(err)
	}
	return at
}
