// Command bench-wake times the first row of a new session and of one that is
// idle, on Sail and on Apache Spark, with and without an engine that stands by,
// and prints one markdown table.
//
//	make setup-sail setup-spark && cd bench && go run ./cmd/bench-wake
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sconce-dev/sconce/bench/table"
	"github.com/sconce-dev/sconce/bench/wake"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-wake:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench-wake", flag.ContinueOnError)
	sail := f.String("sail", "../.cache/venv/sail", "`folder` of the virtual environment with pysail")
	spark := f.String("spark", "../.cache/venv/spark", "`folder` of the virtual environment with pyspark[connect]")
	n := f.Int("n", 5, "`number` of sessions for each row")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *n < 1 {
		return errors.New("-n: give at least 1")
	}
	cfg := wake.Config{Python: map[string]string{}}
	var err error
	for preset, path := range map[string]string{"sail": *sail, "spark": *spark} {
		if cfg.Python[preset], err = filepath.Abs(path); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(cfg.Python[preset], "bin", "python")); err != nil {
			return fmt.Errorf("run `make setup-sail setup-spark`, or name other folders with -sail and -spark: %w", err)
		}
	}
	if cfg.Repository, err = filepath.Abs(".."); err != nil {
		return err
	}
	if cfg.Dir, err = os.MkdirTemp("", "sconce-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(cfg.Dir)
	rig, err := wake.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer rig.Stop()
	return report(ctx, rig, *n)
}

// report measures all in turn.
func report(ctx context.Context, rig *wake.Rig, n int) error {
	rows := make([]table.Row, len(wake.Ways))
	for rep := range n {
		for i, way := range wake.Ways {
			v, err := rig.Measure(ctx, way)
			if err != nil {
				return err
			}
			rows[i].Name = way.String()
			rows[i].Repetitions = append(rows[i].Repetitions, table.Repetition{Own: v})
			fmt.Fprintf(os.Stderr, "bench-wake: %d/%d %s: first row %.2f s after create, %.2f s after idle\n",
				rep+1, n, way, v["created_row_s"], v["woken_row_s"])
		}
	}
	t := table.Table{
		Title: "Seconds to the first row",
		Text: fmt.Sprintf("Median of %d sessions, least in brackets. Create is `sconce session create`, a process, to the active session; then a token, and the first row. "+
			"Woken is a request on an idle session to its first row; of that, waking is all that Sconce did before it let the request through.", n),
		Columns: columns(),
		Rows:    rows,
	}
	return t.WriteMarkdown(os.Stdout)
}

func columns() []table.Column {
	var list []table.Column
	for _, c := range []struct{ head, value string }{
		{"create s", "create_s"}, {"create to first row s", "created_row_s"}, {"waking s", "wake_s"}, {"idle to first row s", "woken_row_s"},
	} {
		list = append(list, table.Column{Head: c.head, Digits: 2, Least: true, Value: func(r table.Repetition) float64 { return r.Own.Get(c.value) }})
	}
	return list
}
