package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/launch"
)

// runAll looks after the engines until ctx ends.
func runAll(ctx context.Context, all map[string]launcher) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range all {
		group.Go(func() error { return l.Run(ctx) })
	}
	return group.Wait()
}

// launcher is a sessions.Launcher whose Run blocks for as long as it is used.
type launcher interface {
	sessions.Launcher
	Run(ctx context.Context) error
}

// launcherConfig is what launchers need besides the configuration.
type launcherConfig struct {
	environ []string
	// onExit hears of engines that ended by themselves; it must not block.
	onExit func(sessions.Instance, error)
	log    *zap.Logger
}

// launchers makes the launcher of each cluster that has one, by its name.
func launchers(cfg *configs.Config, more launcherConfig) (map[string]launcher, error) {
	out := map[string]launcher{}
	for _, c := range cfg.Clusters {
		if !c.Launch.Given() {
			continue
		}
		dir, err := engineDir(cfg, os.Getuid(), more.environ)
		if err != nil {
			return nil, err
		}
		p, err := launch.New(launch.Config{
			Cluster: c.Name, Engine: launchEngine(c.Launch), StateDir: dir, Keeper: keeper(), Argv0: os.Args[0],
			OrphanAfter: c.Launch.OrphanAfter, Environ: more.environ, OnExit: more.onExit, Logger: more.log,
		})
		if err != nil {
			return nil, err
		}
		out[c.Name] = p
		if c.Warm > 0 {
			out[c.Name] = launch.NewPool(launch.PoolConfig{
				Stock: p, Size: c.Warm, Cluster: c.Name, KeepFor: sessions.KeepForEver, Logger: more.log,
			})
		}
	}
	return out, nil
}

// keeper is this very binary, also when another was put in its place meanwhile.
func keeper() []string {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return []string{"/proc/self/exe", keepEngine}
	}
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return []string{self, keepEngine}
}

// launchEngine says the same in the words of package launch.
func launchEngine(l configs.Launch) launch.Engine {
	return launch.Engine{
		Preset: l.Preset, Command: l.Command, Python: l.Python, Env: l.Env, Memory: int64(l.Memory), Cores: l.Cores,
		Spark: launch.Spark{
			Master: l.Master, ExecutorMemory: int64(l.ExecutorMemory), ExecutorCores: l.ExecutorCores, Executors: l.Executors,
			Dynamic: l.DynamicAllocation.Enabled, Fewest: l.DynamicAllocation.Min, Most: l.DynamicAllocation.Max, Conf: l.Conf,
		},
		StartTimeout: l.StartTimeout, StopTimeout: l.StopTimeout,
		StopSignal: map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[l.StopSignal],
	}
}

// engineDir is where launchers keep what they know, by state_dir or the system's
// custom (XDG Base Directory Specification; hier(7) for root).
func engineDir(cfg *configs.Config, uid int, environ []string) (string, error) {
	a := &app{environ: environ}
	dir := cfg.StateDir
	switch home := a.env("HOME"); {
	case dir != "":
	case a.env("XDG_STATE_HOME") != "":
		dir = filepath.Join(a.env("XDG_STATE_HOME"), "sconce")
	case uid == 0:
		dir = "/var/lib/sconce"
	case home != "":
		dir = filepath.Join(home, ".local", "state", "sconce")
	default:
		return "", errors.New("there is no place for engines: this user has no HOME: write state_dir into the configuration")
	}
	return filepath.Join(dir, "engines"), nil
}
