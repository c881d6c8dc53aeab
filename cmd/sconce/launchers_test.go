package main

import (
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/launch"
)

// sailFolder has a program called sail, which is this test binary; TestMain knows.
func sailFolder(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "sail")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// One of each kind, none for an address, and the one that launches does, with this binary as its keeper.
func TestLaunchers(t *testing.T) {
	python := filepath.Join(sailFolder(t), "python")
	cfg := configs.Default()
	cfg.StateDir = t.TempDir()
	cfg.Clusters = []configs.Cluster{
		{Name: "old", Address: "a:1"},
		{Name: "own", Launch: configs.Launch{Preset: "sail", Python: python}},
		{Name: "warm", Launch: configs.Launch{Preset: "sail", Python: python}, Warm: 1},
	}
	all, err := launchers(cfg, launcherConfig{environ: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	_, process := all["own"].(*launch.Process)
	_, pool := all["warm"].(*launch.Pool)
	if len(all) != 2 || !process || !pool {
		t.Errorf("got %+v", all)
	}
	in, err := all["own"].Launch(t.Context(), sessions.LaunchSpec{Cluster: "own", Session: "s-1", Generation: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cfg.StateDir, "engines", "own", in.ID, "engine.json")); err != nil {
		t.Error(err)
	}
	if err := all["own"].Stop(t.Context(), in); err != nil {
		t.Error(err)
	}
}

func TestLaunchEngine(t *testing.T) {
	got := launchEngine(configs.Launch{
		Preset: "spark", Python: "p", Env: []string{"A=b"}, Memory: 1, Cores: 2, Master: "yarn", ExecutorMemory: 3, ExecutorCores: 4,
		Executors: 5, DynamicAllocation: configs.DynamicAllocation{Enabled: true, Min: 6, Max: 7}, Conf: []string{"c=d"},
		StartTimeout: 8, StopTimeout: 9, StopSignal: "INT",
	})
	want := launch.Engine{
		Preset: "spark", Python: "p", Env: []string{"A=b"}, Memory: 1, Cores: 2,
		Spark: launch.Spark{
			Master: "yarn", ExecutorMemory: 3, ExecutorCores: 4, Executors: 5, Dynamic: true, Fewest: 6, Most: 7, Conf: []string{"c=d"},
		},
		StartTimeout: 8, StopTimeout: 9, StopSignal: syscall.SIGINT,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if l := launchEngine(configs.Launch{}); !reflect.DeepEqual(l, launch.Engine{}) {
		t.Errorf("of nothing: %+v", l)
	}
}

func TestEngineDir(t *testing.T) {
	for name, tc := range map[string]struct {
		dir     string
		uid     int
		environ []string
		want    string
	}{
		"configured":     {"/x", 0, nil, "/x/engines"},
		"XDG":            {"", 1, []string{"HOME=/h", "XDG_STATE_HOME=/s"}, "/s/sconce/engines"},
		"root":           {"", 0, []string{"HOME=/root"}, "/var/lib/sconce/engines"},
		"a user":         {"", 1, []string{"HOME=/h"}, "/h/.local/state/sconce/engines"},
		"without a home": {"", 1, nil, ""},
	} {
		cfg := configs.Default()
		cfg.StateDir = tc.dir
		if got, err := engineDir(cfg, tc.uid, tc.environ); got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tc.want)
		}
	}
}
