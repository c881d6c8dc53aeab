package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sconce-dev/sconce/configs"
)

// reloader reads the configuration again at SIGHUP. It takes over all that changed, or
// nothing, and says which.
type reloader struct {
	sources configs.Sources
	hangups <-chan os.Signal
	cfg     *configs.Config // as it is now
	level   zap.AtomicLevel
	updates chan<- *configs.Config // the gateway takes over from there
	log     *zap.Logger
}

// run reloads until ctx ends.
func (r *reloader) run(ctx context.Context) {
	for {
		select {
		case <-r.hangups:
			r.reload(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (r *reloader) reload(ctx context.Context) {
	next, err := configs.Load(r.sources)
	if err == nil {
		err = checkFiles(ctx, next, r.sources.Environ)
	}
	if err != nil {
		r.refuse(err)
		return
	}
	changed := configs.Changed(r.cfg, next)
	if restart := configs.Restart(changed); len(restart) > 0 {
		r.log.Error("configuration not reloaded, nothing is changed: these keys want a restart; restart, or write their former values and send SIGHUP again",
			zap.Strings("keys", restart))
		return
	}
	select {
	case r.updates <- next:
	case <-ctx.Done():
		return
	}
	if level, err := zapcore.ParseLevel(next.Log.Level); err == nil { // Load has seen that it is one
		r.level.SetLevel(level)
	}
	r.cfg = next
	r.log.Info("configuration reloaded", zap.Strings("changed", changed))
}

// refuse says each fault in a line of its own.
func (r *reloader) refuse(err error) {
	r.log.Error("configuration not reloaded, nothing is changed: correct what follows and send SIGHUP again")
	var faults configs.Faults
	if !errors.As(err, &faults) {
		r.log.Error("configuration fault", zap.Error(err))
		return
	}
	for _, f := range faults {
		r.log.Error("configuration fault", zap.String("fault", strings.TrimSpace(f.String())))
	}
}
