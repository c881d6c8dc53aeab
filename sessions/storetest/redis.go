package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Redis is a real redis-server process of the test's own.
type Redis struct {
	// Addr is its host:port on loopback.
	Addr string

	cmd *exec.Cmd
}

// StartRedis starts a redis-server that is found on the PATH, on a free port and
// in a folder of its own, waits until it is ready and kills it at the end of the
// test. Without one the test fails.
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	return StartRedisAt(t, FreePort(t), args...)
}

// StartRedisAt is StartRedis on a given port.
func StartRedisAt(t testing.TB, port string, args ...string) *Redis {
	t.Helper()
	base := []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()}
	return start(t, port, "Ready to accept connections", append(base, args...))
}

// StartSentinel starts a sentinel that watches a master by the name "main" and
// replaces it alone, half a second after it fell silent.
func StartSentinel(t testing.TB, master *Redis) *Redis {
	t.Helper()
	port, dir := FreePort(t), t.TempDir()
	config := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor main 127.0.0.1 %s 1\n"+
		"sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n", port, dir, master.Port())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, port, "+monitor master main", []string{config, "--sentinel"})
}

// start runs redis-server until it has said that it is ready.
func start(t testing.TB, port, ready string, args []string) *Redis {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("this test needs a real redis-server on the PATH: install the package redis-server (Debian, Ubuntu) or redis (brew)")
	}
	cmd := exec.Command(path, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	r := &Redis{Addr: net.JoinHostPort("127.0.0.1", port), cmd: cmd}
	t.Cleanup(r.Kill)
	if err := awaitLine(out, ready); err != nil {
		t.Fatalf("redis-server on port %s: %v", port, err)
	}
	return r
}

// Kill ends the process as a crash would. It may be called more than once.
func (r *Redis) Kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill() // an error says that it is gone already
		_ = r.cmd.Wait()         // "signal: killed"
	}
}

// Signal sends a signal to the process: SIGSTOP makes it hang.
func (r *Redis) Signal(s os.Signal) error { return r.cmd.Process.Signal(s) }

// Followed says whether a replica has all that r was told so far, and the sentinel
// would make that replica the master if r died.
func (r *Redis) Followed(ctx context.Context, sentinel *Redis) bool {
	m, s := redis.NewClient(&redis.Options{Addr: r.Addr}), redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr})
	defer m.Close()
	defer s.Close()
	known, err := s.Replicas(ctx, "main").Result()
	if err != nil || len(known) != 1 || known[0]["flags"] != "slave" {
		return false
	}
	// WAIT is about what its own connection wrote, and whoever has that has all before it.
	p := m.Pipeline()
	p.Set(ctx, "mark", "", 0)
	copies := p.Do(ctx, "WAIT", 1, 1000)
	_, err = p.Exec(ctx)
	n, _ := copies.Int()
	return err == nil && n == 1
}

// Port is the port of Addr, to start another server in its place.
func (r *Redis) Port() string {
	_, port, _ := net.SplitHostPort(r.Addr)
	return port
}

// awaitLine reads the server's log until it says that it is ready. What it writes
// later is little and fits the pipe.
func awaitLine(log io.Reader, ready string) error {
	var said strings.Builder
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), ready) {
			return nil
		}
		said.WriteString(lines.Text() + "\n")
	}
	return fmt.Errorf("ended before it was ready:\n%s", said.String())
}
