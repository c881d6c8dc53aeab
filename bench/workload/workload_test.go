package workload

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/bench/backend"
	"github.com/sconce-dev/sconce/bench/load"
	"github.com/sconce-dev/sconce/bench/table"
)

func startBackend(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- backend.New(backend.Config{}).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// TestEveryWorkloadFillsItsColumns runs the catalogue quickly against the bare
// backend, with this process in the part of the proxy.
func TestEveryWorkloadFillsItsColumns(t *testing.T) {
	rig := Rig{
		Target: load.Target{
			Addr: startBackend(t), Token: "t", Session: "s", Spark: "8a2f1a52-0f2f-4f4c-9d5e-0123456789ab",
		},
		PID: os.Getpid(), Quick: true, Connections: 80, Silence: time.Millisecond, Slow: 200 * time.Millisecond,
	}
	seen := map[string]bool{}
	for _, w := range All() {
		if seen[w.Name] {
			t.Errorf("two workloads are called %s", w.Name)
		}
		seen[w.Name] = true
		t.Run(w.Name, func(t *testing.T) {
			v, err := w.Run(t.Context(), rig)
			if err != nil {
				t.Fatal(err)
			}
			r := table.Repetition{Own: v, Floor: v, Direct: v}
			for _, c := range w.Columns {
				if x := c.Value(r); x != x {
					t.Errorf("no figure for %q in %v", c.Head, v)
				}
			}
		})
	}
}

func TestWithoutProxyThereIsNoCPU(t *testing.T) {
	rig := Rig{Target: load.Target{Addr: startBackend(t), Spark: "8a2f1a52-0f2f-4f4c-9d5e-0123456789ab"}}
	v, err := rig.unary(t.Context(), 100, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v[figureCPU]; ok || v[figureCalls] != 100 {
		t.Errorf("got %v", v)
	}
}
