package line

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/bench/table"
	"github.com/sconce-dev/sconce/bench/workload"
)

func run(workload, peer string, rep int, v table.Values) table.Run {
	return table.Run{Workload: workload, Peer: peer, Repetition: rep, Values: v}
}

func TestJudge(t *testing.T) {
	runs := []table.Run{
		run("W2", "sconce", 1, table.Values{"cpu_s": 1}), run("W2", "nginx", 1, table.Values{"cpu_s": 2}),
		run("W2", "sconce", 2, table.Values{"cpu_s": 9}), run("W2", "nginx", 2, table.Values{"cpu_s": 10}),
		run("W2", "sconce", 3, table.Values{"cpu_s": 3}), run("W2", "nginx", 3, table.Values{"cpu_s": 1}),
		{Workload: "W2", Peer: "sconce", Repetition: 4, Err: errors.New("failed")},
		run("W3", "sconce", 1, table.Values{"cpu_s": 1}),
	}
	for _, tc := range []struct {
		name  string
		c     Criterion
		value float64
		holds bool
	}{
		{"median of the ratios holds", cpu("W2", "nginx", 1), 0.9, true},
		{"and does not", cpu("W2", "nginx", 0.5), 0.9, false},
		{"no such peer", cpu("W3", "nginx", 1), math.NaN(), false},
		{"no such workload", cpu("W4", "nginx", 1), math.NaN(), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.c.Judge(runs)
			if got.Holds != tc.holds || got.Value != tc.value && !(math.IsNaN(got.Value) && math.IsNaN(tc.value)) {
				t.Errorf("got %+v, want %v %v", got, tc.value, tc.holds)
			}
		})
	}
	var b strings.Builder
	WriteMarkdown(&b, runs)
	if !strings.Contains(b.String(), "| W2 | CPU ÷ nginx | 0.90 | 1.00 | yes |") || strings.Contains(b.String(), "W3") {
		t.Errorf("got\n%s", b.String())
	}
}

func TestEveryCriterionNamesAWorkload(t *testing.T) {
	known := map[string]bool{}
	for _, w := range workload.All() {
		known[w.Name] = true
	}
	for _, c := range All() {
		if !known[c.Workload] {
			t.Errorf("%s: no workload %s", c.Text, c.Workload)
		}
	}
}
