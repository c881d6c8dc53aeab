// Command bench-spark times PySpark's toArrow of a million rows from a Sail
// server, directly and through Sconce, in turn, and prints one markdown table.
//
//	make setup-sail && cd bench && go run ./cmd/bench-spark
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sconce-dev/sconce/bench/spark"
	"github.com/sconce-dev/sconce/bench/table"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-spark:", err)
		os.Exit(1)
	}
}

type options struct {
	venv, module, out string
	rows, times, n    int
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench-spark", flag.ContinueOnError)
	f.StringVar(&o.venv, "venv", "../.cache/venv/sail", "`folder` of the virtual environment with pysail and PySpark")
	f.StringVar(&o.module, "module", ".", "`folder` of the bench module")
	f.StringVar(&o.out, "out", "", "write the markdown to this `file` too")
	f.IntVar(&o.rows, "rows", 1_000_000, "`number` of rows")
	f.IntVar(&o.times, "times", 5, "`number` of queries in each Python process")
	f.IntVar(&o.n, "n", 5, "`number` of Python processes for each way")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.rows < 1 || o.times < 1 || o.n < 1 {
		return o, errors.New("-rows, -times and -n: give at least 1")
	}
	var err error
	if o.module, err = filepath.Abs(o.module); err != nil {
		return o, err
	}
	o.venv, err = filepath.Abs(o.venv)
	return o, err
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sconce-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	rig, err := spark.Start(ctx, spark.Config{
		Python: o.venv, Repository: filepath.Dir(o.module), Dir: dir, Rows: o.rows, Times: o.times,
	})
	if err != nil {
		return err
	}
	defer rig.Stop()
	return report(ctx, o, rig)
}

// report measures both ways in turn, beginning with the other one each time.
func report(ctx context.Context, o options, rig *spark.Rig) error {
	ways := []string{spark.Direct, spark.Through}
	rows := map[string]*table.Row{}
	for _, way := range ways {
		rows[way] = &table.Row{Name: way}
	}
	for rep := range o.n {
		figures := map[string]table.Values{}
		for i := range ways {
			way := ways[(i+rep)%len(ways)]
			v, err := rig.Measure(ctx, way)
			if err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
			figures[way] = v
			fmt.Fprintf(os.Stderr, "bench-spark: %d/%d %s: %.3f s\n", rep+1, o.n, way, v["wall_s"])
		}
		for _, way := range ways {
			rows[way].Repetitions = append(rows[way].Repetitions,
				table.Repetition{Own: figures[way], Direct: figures[spark.Direct]})
		}
	}
	return write(o, table.Table{
		Title:   fmt.Sprintf("PySpark toArrow of %d rows from Sail", o.rows),
		Text:    fmt.Sprintf("Median of %d processes with %d queries each; CPU is Sconce's, connecting included.", o.n, o.times),
		Columns: columns(),
		Rows:    []table.Row{*rows[spark.Direct], *rows[spark.Through]},
	})
}

func columns() []table.Column {
	return []table.Column{
		{Head: "wall s", Digits: 3, Least: true, Value: func(r table.Repetition) float64 { return r.Own.Get("wall_s") }},
		{Head: "÷ direct", Digits: 3, Value: func(r table.Repetition) float64 {
			return r.Own.Get("wall_s") / r.Direct.Get("wall_s")
		}},
		{Head: "MB", Digits: 1, Value: func(r table.Repetition) float64 { return r.Own.Get("bytes") / 1e6 }},
		{Head: "CPU ms / query", Digits: 1, Value: func(r table.Repetition) float64 { return r.Own.Get("cpu_s") * 1e3 }},
		{Head: "peak RSS MB", Digits: 1, Value: func(r table.Repetition) float64 { return r.Own.Get("rss_peak_bytes") / 1e6 }},
	}
}

func write(o options, t table.Table) error {
	var b strings.Builder
	if err := t.WriteMarkdown(&b); err != nil {
		return err
	}
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(b.String()), 0o600); err != nil {
			return fmt.Errorf("-out: %w", err)
		}
	}
	_, err := os.Stdout.WriteString(b.String())
	return err
}
