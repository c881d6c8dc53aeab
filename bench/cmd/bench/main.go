// Command bench puts proxies side by side: the same client, the same backend,
// one after the other, and again, and prints one markdown table per workload.
//
//	go run ./cmd/bench -quick                        # a first look, a few minutes
//	go run ./cmd/bench -n 5 -out results.md          # the real run
//	go run ./cmd/bench -workloads W2,W3 -peers tcp,nginx,sconce
//
// It builds what is ours, starts every proxy afresh for every run on loopback,
// and reads what it used from /proc. Peers come from Debian (nginx, haproxy,
// nghttp2-proxy); Sconce needs redis-server as well. A peer that is missing has
// a row that says so, and the exit code is then 1, unless -peers left it out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the whole program.
func run(ctx context.Context, args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sconce-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := newStage(ctx, o, dir)
	if err != nil {
		return err
	}
	defer s.close()
	runs := s.runAll(ctx)
	if err := writeResults(o, s, runs); err != nil {
		return err
	}
	return errors.Join(ctx.Err(), s.faults(runs))
}
