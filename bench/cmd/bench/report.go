package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/sconce-dev/sconce/bench/line"
	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/table"
	"github.com/sconce-dev/sconce/bench/workload"
)

// floor is the peer that others are compared with.
const floor = "tcp"

func writeResults(o options, s *stage, runs []table.Run) error {
	var b strings.Builder
	writeHead(&b, o, s)
	for _, w := range o.workloads {
		if err := s.table(w, runs).WriteMarkdown(&b); err != nil {
			return err
		}
	}
	line.WriteMarkdown(&b, runs)
	if _, err := os.Stdout.WriteString(b.String()); err != nil {
		return err
	}
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(b.String()), 0o600); err != nil {
			return fmt.Errorf("-out: %w", err)
		}
	}
	if o.csv == "" {
		return nil
	}
	f, err := os.Create(o.csv)
	if err != nil {
		return fmt.Errorf("-csv: %w", err)
	}
	defer f.Close()
	return table.WriteCSV(f, runs)
}

// writeHead says on what and with what the figures were made.
func writeHead(w io.Writer, o options, s *stage) {
	fmt.Fprintf(w, "## Side by side, %s\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(w, "%s, %d CPUs, Linux %s, %s; everything on loopback. Sconce is at %s.\n",
		cpuModel(), runtime.NumCPU(), kernel(), runtime.Version(), commit(o.module))
	fmt.Fprintf(w, "To repeat: `cd bench && go run ./cmd/bench %s`.\n\n", strings.Join(o.args, " "))
	fmt.Fprint(w, "Figures are of the proxy's whole process tree; the median of n runs, the least in brackets. ",
		"Peers take turns, a fresh process for every run. Ratios (÷) and differences (added) are of the same repetition. ",
		"Sconce checks tokens, routes by session, stamps the user, counts and limits; the peers do none of that.\n\n")
	fmt.Fprintln(w, "| proxy | version | remark |\n| --- | --- | --- |")
	for _, a := range s.cast {
		version := a.version
		if a.missing != nil {
			version = firstLine(a.missing)
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", a.peer.Name, version, a.peer.Remark)
	}
	fmt.Fprintln(w)
}

// table gathers the runs of one workload.
func (s *stage) table(w workload.Workload, runs []table.Run) table.Table {
	t := table.Table{Title: w.Title, Text: w.Text, Columns: w.Columns}
	for _, a := range s.players(w) {
		t.Rows = append(t.Rows, row(w, a, runs))
	}
	return t
}

func row(w workload.Workload, a actor, runs []table.Run) table.Row {
	r := table.Row{Name: a.peer.Name}
	if a.missing != nil {
		r.Remark = firstLine(a.missing)
		return r
	}
	var failed []error
	for _, own := range runs {
		if own.Workload != w.Name || own.Peer != a.peer.Name {
			continue
		}
		if own.Err != nil {
			failed = append(failed, own.Err)
			continue
		}
		r.Repetitions = append(r.Repetitions, table.Repetition{
			Own:    own.Values,
			Floor:  beside(runs, own, reference(w)),
			Direct: beside(runs, own, peers.Direct),
		})
	}
	if len(failed) > 0 {
		r.Remark = fmt.Sprintf("%d failed: %s", len(failed), firstLine(failed[0]))
	}
	return r
}

// reference is the peer whose CPU others are divided by.
func reference(w workload.Workload) string {
	if w.Scale {
		return peers.SconceName
	}
	return floor
}

// beside returns the figures of another peer in the same repetition, or nil.
func beside(runs []table.Run, own table.Run, peer string) table.Values {
	for _, r := range runs {
		if r.Workload == own.Workload && r.Repetition == own.Repetition && r.Peer == peer && r.Err == nil {
			return r.Values
		}
	}
	return nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// commit names what is checked out, as git describes it.
func commit(folder string) string {
	cmd := exec.Command("git", "describe", "--always", "--tags", "--dirty") //nolint:noctx // it takes no time
	cmd.Dir = folder
	out, err := cmd.Output()
	if err != nil {
		return "an unknown commit"
	}
	return strings.TrimSpace(string(out))
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
