package load_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/bench/backend"
	"github.com/sconce-dev/sconce/bench/load"
	"github.com/sconce-dev/sconce/bench/peers"
)

const spark = "8a2f1a52-0f2f-4f4c-9d5e-0123456789ab"

// startBackend serves on a free port until the test ends and returns the address.
func startBackend(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	srv := backend.New(backend.Config{Log: func(err error) { t.Log(err) }})
	go func() { served <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// startPeer builds and starts one of our own peers before the backend.
func startPeer(t *testing.T, name, backend string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", bin, "../peers/"+name)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	port, err := peers.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cmd := exec.Command(bin, "-listen", addr, "-to", backend)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waitFor(t, addr)
	return addr
}

func waitFor(t *testing.T, addr string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // another process, no channel to wait on
	}
}

func dial(t *testing.T, addr string, conns int) *load.Pool {
	t.Helper()
	p, err := load.Dial(t.Context(), load.Target{
		Addr: addr, Token: strings.Repeat("t", 900), Session: "s-1", Spark: spark, Timeout: 20 * time.Second,
	}, conns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// TestContent sends every kind of call through each path and relies on the load
// generator's and the backend's comparison of each byte.
func TestContent(t *testing.T) {
	direct := startBackend(t)
	paths := map[string]string{
		"direct":  direct,
		"tcpcopy": startPeer(t, "tcpcopy", direct),
		"grpcraw": startPeer(t, "grpcraw", direct),
	}
	calls := []struct {
		name  string
		conns int
		do    func(*load.Conn) error
	}{
		{"unary one at a time", 1, func(c *load.Conn) error { _, err := c.Unary(1, 200); return err }},
		{"unary 64 at once", 1, func(c *load.Conn) error { _, err := c.Unary(64, 2000); return err }},
		{"unary 8 by 8", 8, func(c *load.Conn) error { _, err := c.Unary(8, 300); return err }},
		{"64 KiB messages", 1, download(load.Ask{Size: 64 << 10, Messages: 512})},
		{"4 MiB messages", 1, download(load.Ask{Size: 4 << 20, Messages: 8})},
		{"one 32 MiB message", 1, download(load.Ask{Size: 32 << 20, Messages: 1})},
		{"odd sizes", 2, download(load.Ask{Size: 12345, Messages: 999})},
		{"eight at once", 8, download(load.Ask{Size: 64 << 10, Messages: 128})},
		{"fifty on each of four", 4, func(c *load.Conn) error {
			_, err := c.Downloads(load.Ask{Size: 64 << 10, Messages: 16}, 50)
			return err
		}},
		{"upload", 2, func(c *load.Conn) error { return c.Upload(32<<10, 1024) }},
		{"open streams", 2, func(c *load.Conn) error {
			return c.Open(load.Ask{Size: 64 << 10, Messages: 1, Hold: true}, 50)
		}},
	}
	for path, addr := range paths {
		for _, call := range calls {
			t.Run(path+"/"+call.name, func(t *testing.T) {
				if err := dial(t, addr, call.conns).Each(call.do); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func download(a load.Ask) func(*load.Conn) error {
	return func(c *load.Conn) error {
		got, err := c.Download(a)
		if err != nil {
			return err
		}
		if want := int64(a.Size) * a.Messages; got.Bytes != want || got.First <= 0 || got.Wall < got.First {
			return errors.New("the figures of a download do not fit its size")
		}
		return nil
	}
}

func TestStalledStreamsBringOneWindow(t *testing.T) {
	c := dial(t, startBackend(t), 1).Conns[0]
	if err := c.OpenFor(load.Ask{Size: 64 << 10, Messages: 1 << 20, Credit: load.Never}, 40, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Downloads(load.Ask{Size: 64 << 10, Messages: 64}, 4); err != nil {
		t.Fatal(err)
	}
}

func TestSlowReaderKeepsItsRate(t *testing.T) {
	const rate, window = 4 << 20, 1 << 20
	c := dial(t, startBackend(t), 1).Conns[0]
	var brought [3][]int64
	for range 5 { // one of them may be while the machine has other things to do
		got, err := c.Slow(load.Ask{Size: 64 << 10, Messages: 1 << 20}, len(brought), rate, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range got {
			brought[i] = append(brought[i], n)
		}
	}
	for i, all := range brought {
		slices.Sort(all)
		if n := all[len(all)/2]; n < rate/2 || n > rate*3/2+window {
			t.Errorf("stream %d brought %d bytes in a second at %d bytes a second, in the median", i, all, rate)
		}
	}
}

func TestPeerThatIsNoProxyIsAnError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = nc.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		nc.Close()
	}()
	if _, err := load.Dial(t.Context(), load.Target{Addr: ln.Addr().String(), Timeout: 5 * time.Second}, 1); err == nil {
		t.Error("an HTTP/1.1 server was taken for a proxy")
	}
}
