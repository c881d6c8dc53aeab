package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/table"
	"github.com/sconce-dev/sconce/bench/workload"
)

func TestParseOptions(t *testing.T) {
	for _, tc := range []struct {
		name, args string
		workloads  string // joined names
		wrong      string // in the error
	}{
		{"one", "-workloads W2", "W2", ""},
		{"a family", "-workloads W1,W8", "W1_1x1 W1_1x64 W1_8x8 W8", ""},
		{"all", "", workloadNames(), ""},
		{"no such workload", "-workloads W77", "", "W77"},
		{"no such peer", "-peers tcp,squid", "", "squid"},
		{"no repetitions", "-n 0", "", "-n 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, err := parseOptions(strings.Fields(tc.args))
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, w := range o.workloads {
				names = append(names, w.Name)
			}
			if got := strings.Join(names, " "); got != tc.workloads {
				t.Errorf("workloads %s, want %s", got, tc.workloads)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	missing := func(optional bool) actor {
		return actor{peer: peers.Peer{Name: "nginx", Optional: optional}, missing: peers.ErrNotInstalled}
	}
	for _, tc := range []struct {
		name string
		cast []actor
		runs []table.Run
		want bool
	}{
		{"all well", []actor{{}}, []table.Run{{}}, false},
		{"a peer is missing", []actor{missing(false)}, nil, true},
		{"an optional peer is missing", []actor{missing(true)}, nil, false},
		{"a run failed", []actor{{}}, []table.Run{{}, {Err: errors.New("reset")}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &stage{cast: tc.cast}
			if got := s.faults(tc.runs); (got != nil) != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestRowTakesFiguresOfTheSameRepetition(t *testing.T) {
	w := workload.Workload{Name: "W2"}
	runs := []table.Run{
		{Workload: "W2", Peer: "tcp", Repetition: 1, Values: table.Values{"x": 1}},
		{Workload: "W2", Peer: "nginx", Repetition: 2, Values: table.Values{"x": 20}},
		{Workload: "W2", Peer: "tcp", Repetition: 2, Values: table.Values{"x": 2}},
		{Workload: "W2", Peer: "nginx", Repetition: 3, Err: errors.New("lost\nmore")},
		{Workload: "W3", Peer: "nginx", Repetition: 2, Values: table.Values{"x": 99}},
	}
	r := row(w, actor{peer: peers.Peer{Name: "nginx"}}, runs)
	if len(r.Repetitions) != 1 || r.Repetitions[0].Floor["x"] != 2 || r.Repetitions[0].Direct != nil {
		t.Errorf("got %+v", r.Repetitions)
	}
	if r.Remark != "1 failed: lost" {
		t.Errorf("remark %q", r.Remark)
	}
}

// TestRun is the whole program on its smallest stage.
func TestRun(t *testing.T) {
	out, raw := filepath.Join(t.TempDir(), "out.md"), filepath.Join(t.TempDir(), "out.csv")
	err := run(context.Background(), []string{
		"-quick", "-n", "2", "-workloads", "W1_1x1,W2c", "-peers", "direct,tcp,grpcraw", "-module", "../..",
		"-out", out, "-csv", raw,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"### W1_1x1", "### W2c", "\n| direct | 2 | ", "\n| tcp | 2 | ", "\n| grpcraw | 2 | "} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the report lacks %q:\n%s", want, got)
		}
	}
	figures, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(figures), "W2c,grpcraw,2,cpu_s,") {
		t.Errorf("the raw figures lack a run:\n%s", figures)
	}
}

func TestMissingPeerHasARow(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.md")
	s := &stage{cast: []actor{{peer: peers.Peer{Name: "nginx"}, missing: errors.Join(peers.ErrNotInstalled)}}}
	o := options{workloads: workload.All()[:1], out: out}
	s.o = o
	if err := writeResults(o, s, nil); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), "| nginx | 0 | not installed |") {
		t.Errorf("got\n%s", got)
	}
}
