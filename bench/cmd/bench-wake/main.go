// Command bench-wake times the first row of a new session and of one that is
// idle, on Sail and on Apache Spark, with and without an engine that stands by,
// and prints two markdown tables, split by stage.
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
				rep+1, n, way, v["create_to_row_s"], v["wake_to_row_s"])
		}
	}
	tables := []table.Table{
		{
			Title: "Seconds from create to the first row",
			Text: fmt.Sprintf("Median of %d sessions, least in brackets; each column has a median of its own. The engine is what Sconce did to have one that serves, its state what it did to bring "+
				"the session onto it; both are parts of create, which is `sconce session create`, a process, to the active session. Then come `sconce token issue`, another one, and the first row.", n),
			Columns: columns([]column{
				{"engine s", "create_engine_s"}, {"state s", "create_state_s"}, {"create s", "create_s"},
				{"token and first row s", "create_row_s"}, {"create to first row s", "create_to_row_s"},
			}),
			Rows: rows,
		},
		{
			Title: "Seconds from idle to the first row",
			Text:  "The same sessions, after they were idle and their engines gone: one request, from its first byte to its first row. The first row is what is left of it after engine and state, nearly all of it the engine's own first query.",
			Columns: columns([]column{
				{"engine s", "wake_engine_s"}, {"state s", "wake_state_s"}, {"first row s", "wake_row_s"}, {"idle to first row s", "wake_to_row_s"},
			}),
			Rows: rows,
		},
	}
	for _, t := range tables {
		if err := t.WriteMarkdown(os.Stdout); err != nil {
			return err
		}
	}
	return nil
}

type column struct{ head, value string }

func columns(all []column) []table.Column {
	var list []table.Column
	for _, c := range all {
		list = append(list, table.Column{Head: c.head, Digits: 2, Least: true, Value: func(r table.Repetition) float64 { return r.Own.Get(c.value) }})
	}
	return list
}
