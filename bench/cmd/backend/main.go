// Command backend runs the benchmark's HTTP/2 backend as a process of its own.
//
//	backend -listen 127.0.0.1:9000
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/sconce-dev/sconce/bench/backend"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	quiet := flag.Bool("quiet", false, "say nothing about connections that end badly")
	flag.Parse()
	err := serve(ctx, *listen, *quiet)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen string, quiet bool) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	cfg := backend.Config{Log: func(err error) { fmt.Fprintln(os.Stderr, "backend:", err) }}
	if quiet {
		cfg.Log = nil
	}
	return backend.New(cfg).Serve(ctx, ln)
}
