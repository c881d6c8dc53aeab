package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sconce-dev/sconce/configs"
)

func (a *app) serveCommand() *cobra.Command {
	var sources configs.Sources
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the gateway", Args: noArgs,
		Long: `Run the gateway until SIGTERM or SIGINT. It then takes no more connections, tells
clients to go elsewhere, and waits up to drain_timeout for what is running. A second
signal ends it at once.

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
	log := newLogger(cfg.Log, a.stderr)
	defer func() { _ = log.Sync() }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cut := make(chan struct{})
	go a.stopTwice(ctx, stop, cut, log)
	g := &gateway{cfg: cfg, log: log, now: a.now, cut: cut}
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

// newLogger makes the logger that a configuration describes.
func newLogger(cfg configs.Log, w interface{ Write([]byte) (int, error) }) *zap.Logger {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		level = zapcore.InfoLevel
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339TimeEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if cfg.Format == "console" {
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level))
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
