package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDescriptorsUsedUp: the process may open no more files, and its port has more
// connections than it can take. What runs goes on, the page for operators says so, and
// when there is room again it is as before.
func TestDescriptorsUsedUp(t *testing.T) {
	w := needs(t)
	g := w.gate.replica(t)
	s := w.gate.open(t, "ada", w.sail.cluster).through(g)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stream, err := s.caller(t).open(ctx, "ExecutePlan", request(newUUID(), "ada").query(drainQuery))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := countRows(stream, 20)
	if err != nil {
		t.Fatal(err)
	}
	if err := answers(g.admin + "/readyz")(); err != nil {
		t.Fatal(err)
	}
	asked := pageOf(t, g.admin+"/readyz") // its connection stays: there will be none to be had
	if _, status := asked(); status != "200 OK" {
		t.Fatalf("ready: %s", status)
	}
	limit := descriptors(t, g) + 8
	restrict(t, g, limit)
	var crowd []net.Conn
	leave := func() {
		for _, c := range crowd {
			c.Close()
		}
		crowd = nil
	}
	defer leave()
	for range 40 {
		c, err := net.DialTimeout("tcp", g.host(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, c)
	}
	within(t, 20*time.Second, "the page says that there is no room", func() bool {
		text, status := asked()
		return status != "200 OK" && strings.Contains(text, "port")
	})
	rest, err := countRows(stream, 0)
	if err != nil || rows+rest != drainRows {
		t.Errorf("%d rows without descriptors, want %d: %v", rows+rest, drainRows, err)
	}
	before := ticks(t, g)
	time.Sleep(2 * time.Second) // nothing runs: it only tries to accept
	if took := ticks(t, g) - before; took > 40 {
		t.Errorf("it took %d ticks of 200 to wait for a descriptor", took)
	}
	leave()
	within(t, 30*time.Second, "there is room again", func() bool { return answers(g.admin+"/readyz")() == nil })
	if err := s.query(t); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// pageOf asks for a page again and again over one connection that stays open.
func pageOf(t *testing.T, url string) func() (text, status string) {
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	t.Cleanup(client.CloseIdleConnections)
	return func() (string, string) {
		reply, err := client.Get(url)
		if err != nil {
			return err.Error(), ""
		}
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		if err != nil {
			return err.Error(), ""
		}
		return string(text), reply.Status
	}
}

// ticks is the time of the processor that the process had, in hundredths of a second.
func ticks(t *testing.T, g *gateway) (sum int) {
	t.Helper()
	_, rest, _ := strings.Cut(content(t, fmt.Sprintf("/proc/%d/stat", g.child.cmd.Process.Pid)), ") ")
	for _, field := range strings.Fields(rest)[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// descriptors is how many files the process has open.
func descriptors(t *testing.T, g *gateway) uint64 {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.child.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return uint64(len(list))
}

func restrict(t *testing.T, g *gateway, files uint64) {
	t.Helper()
	limit := unix.Rlimit{Cur: files, Max: files}
	if err := unix.Prlimit(g.child.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}

// TestLogsGoNowhere: the disk of the log is full, or whoever reads it stopped. The
// queries do not notice, and the process ends when it is told to.
func TestLogsGoNowhere(t *testing.T) {
	w := needs(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"full disk": ">/dev/full", "nobody reads": "<>" + pipe} {
		t.Run(name, func(t *testing.T) {
			wrapped := filepath.Join(t.TempDir(), "sconce")
			script := fmt.Sprintf("#!/bin/sh\nexec %q \"$@\" 2%s\n", w.gate.binary, to)
			if err := os.WriteFile(wrapped, []byte(script), 0o700); err != nil { //nolint:gosec // a program
				t.Fatal(err)
			}
			g := (&gateway{dir: w.gate.dir, binary: wrapped, ca: w.gate.ca, front: w.gate.front}).replica(t)
			s := w.gate.open(t, "ada", w.sail.cluster).through(g)
			caller, spark := s.caller(t), newUUID()
			// Each is a line of the log, and all are several times what a pipe holds.
			for range 1000 {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				_, err := caller.call(ctx, "Config", request(spark, "ada").get("spark.sql.session.timeZone"))
				cancel()
				if err != nil {
					t.Fatal(err)
				}
			}
			if name == "full disk" { // a line may come after the answer that it is about
				within(t, 20*time.Second, "each line is counted as dropped", func() bool {
					return g.metric(t, "sconce_log_lines_dropped_total") >= 1000
				})
			}
			if err := g.child.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case <-g.child.done:
			case <-time.After(20 * time.Second):
				t.Fatal("it does not end")
			}
			if code := g.child.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("it ended with %d", code)
			}
		})
	}
}
