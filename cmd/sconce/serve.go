package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/configs"
)

func (a *app) serveCommand() *cobra.Command {
	var sources configs.Sources
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the gateway", Args: noArgs,
		Long: `Run the gateway until SIGTERM or SIGINT. It then takes no more connections, tells
clients to go elsewhere, and waits up to drain_timeout for what is running. A second
signal ends it at once.

SIGHUP reads the configuration again. Changes of log.level, drain_timeout and
max_connection_age are taken over; where anything else changed or is faulty, nothing
is, and the log says why. Keys and certificates are read again without it.

Exit codes: 0 drained, or drain_timeout passed; 1 failed; 2 the configuration has
faults, all of which are printed; 3 ended at once by a second signal.`,
		Example: `  sconce serve --config /etc/sconce/sconce.yaml
  sconce serve --config sconce.yaml --set log.level=debug --set listen=:9085`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), sources) },
	}
	cmd.Flags().StringVar(&sources.File, "config", "", "the configuration, YAML; configs/example.yaml shows every key")
	cmd.Flags().StringArrayVar(&sources.Set, "set", nil, "key=value, stronger than the file and SCONCE_*; may be repeated")
	return cmd
}

func (a *app) serve(ctx context.Context, sources configs.Sources) error {
	sources.Environ = a.environ
	cfg, err := configs.Load(sources)
	if err != nil {
		return err
	}
	if err := checkFiles(ctx, cfg, a.environ); err != nil {
		return err
	}
	level := zap.NewAtomicLevel()
	lines := startLogQueue(a.stderr)
	defer lines.end()
	log := newLogger(cfg.Log, level, lines)
	warnExposed(cfg, log)
	ctx, stop := context.WithCancel(ctx)
	cut, updates := make(chan struct{}), make(chan *configs.Config)
	go a.stopTwice(ctx, stop, cut, log)
	hangups, silence := a.hangups()
	defer silence()
	r := &reloader{sources: sources, hangups: hangups, cfg: cfg, level: level, updates: updates, log: log}
	var reloading sync.WaitGroup
	reloading.Go(func() { r.run(ctx) })
	defer reloading.Wait()
	defer stop()
	g := &gateway{cfg: cfg, log: log, unlogged: lines.dropped.Load, now: a.now, cut: cut, updates: updates}
	return g.Run(ctx)
}

// stopTwice turns the first signal into stop and the second into cut.
func (a *app) stopTwice(ctx context.Context, stop context.CancelFunc, cut chan<- struct{}, log *zap.Logger) {
	select {
	case s := <-a.signals:
		log.Info("draining; another signal ends it at once", zap.Stringer("signal", s))
		stop()
	case <-ctx.Done():
	}
	<-a.signals
	close(cut)
}

// listenError says what to do about a port that cannot be had.
func listenError(key, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is taken: stop what listens there, or choose another address with %s", address, key)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("this user may not listen on %s: choose a port above 1023 with %s", address, key)
	}
	return fmt.Errorf("listen on %s: %w: choose another address with %s", address, err, key)
}

// secret reads a file that holds one secret; "" = none.
func secret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}
