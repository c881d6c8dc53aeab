package e2e

import (
	"testing"
	"time"
)

// Rows of the query whose stream is cut, and the bytes from the engine after
// which it is: a quarter of them or less, also where Sail compresses.
const (
	cutRows  = 1_000_000
	cutAfter = 6 << 20
)

// TestCut cuts the connection between Sconce and the engine in the middle of a
// result. The rows are right, or there is an error; never wrong rows.
func TestCut(t *testing.T) {
	w := needs(t)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			for _, p := range []python{py34, py35, py40, newest} {
				t.Run(p.name, func(t *testing.T) {
					s := w.gate.open(t, "ada", e.cutCluster())
					got := runCut(t, w, e, p, s.url("127.0.0.1"))
					problem := got.failed()
					if got.Error == nil && problem != "" {
						t.Errorf("wrong rows: %s", problem)
					}
					t.Logf("after the cut: %s", redact(shorten(got.steady())))
				})
			}
			t.Run("control: PySpark 3.4 without sconce", func(t *testing.T) {
				got := runCut(t, w, e, py34, e.url(e.link.addr(), "ada"))
				if got.failed() == "" || got.Error != nil {
					t.Errorf("a cut stream did not make PySpark 3.4 lie, so this test can't fail: %s", redact(got.steady()))
				}
			})
		})
	}
}

func runCut(t *testing.T, w *world, e *engine, p python, url string) line {
	t.Helper()
	e.link.cutAfter(cutAfter)
	defer e.link.cutAfter(-1)
	got := p.run(t, w, job{URL: url, Cases: []string{"stream"}, Rows: cutRows}, 4*time.Minute)["stream"]
	if n := e.link.cuts.Load(); n != 1 {
		t.Errorf("the link was cut %d times, want once", n)
	}
	return got
}
