package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// TestDev runs what `make run` and `make run-spark` run, with the real engines: it
// queries through the port, prints how to connect, and leaves nothing behind.
func TestDev(t *testing.T) {
	w := needs(t)
	for _, cluster := range []string{"sail", "spark"} {
		t.Run(cluster, func(t *testing.T) {
			port, err := storetest.FindPort()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			cmd := exec.Command(w.gate.binary, "dev", "--cluster", cluster, "--listen", "localhost:"+strconv.Itoa(port),
				"--python", filepath.Join(w.cache, "venv", cluster, "bin", "python"))
			cmd.Dir = dir
			dev, err := startChild(dir, "dev", syscall.SIGINT, cmd)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { dev.end(20 * time.Second) })
			said := func() string {
				text, err := os.ReadFile(dev.log)
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
			if err := dev.ready(3*time.Minute, func() error {
				if !strings.Contains(said(), "export SPARK_REMOTE='sc://localhost:"+strconv.Itoa(port)+"/;token=") {
					return errors.New("no connection string yet")
				}
				return nil
			}); err != nil {
				t.Fatalf("%v:\n%s", err, redact(said()))
			}
			if !strings.Contains(said(), "|1000000|499999500000|") {
				t.Errorf("no result of the first query:\n%s", redact(said()))
			}
			at := regexp.MustCompile(`serves at (127\.0\.0\.1:\d+) \(log`).FindStringSubmatch(said())
			if at == nil {
				t.Fatalf("it does not say where the engine is:\n%s", redact(said()))
			}
			if err := dev.cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			select {
			case <-dev.done:
			case <-time.After(time.Minute):
				t.Fatal("Ctrl-C does not end it")
			}
			if code := dev.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("it ended with %d, want 0:\n%s", code, redact(said()))
			}
			if conn, err := net.Dial("tcp", at[1]); err == nil {
				conn.Close()
				t.Error("the engine was left running")
			}
		})
	}
}
