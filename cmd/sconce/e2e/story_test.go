package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sconce-dev/sconce/cmd/sconce/scripttest"
)

// TestStory runs the page that users read, step by step: the script that cmd/sconce runs
// with an engine and a client of the tests, here with real ones. Each `tables` is a
// PySpark of its own, in the same Spark session.
func TestStory(t *testing.T) {
	w := needs(t)
	for preset, story := range map[string]struct {
		client                      python
		program, version, idle, age string
	}{
		"sail":  {py41, "sail", `[0-9.]+`, "4s", "15s"},
		"spark": {newest, "spark-submit", `4\.3\.0`, "12s", "60s"},
	} {
		t.Run(preset, func(t *testing.T) {
			redis, address, err := startRedis(t.TempDir(), w.cache)
			if redis != nil {
				t.Cleanup(func() { redis.end(10 * time.Second) })
			}
			if err != nil {
				t.Fatal(err)
			}
			testscript.Run(t, testscript.Params{
				Files:               []string{filepath.Join("..", "testdata", "script", "seed.txtar")},
				RequireExplicitExec: true,
				Condition:           func(is string) (bool, error) { return is == "pyspark", nil },
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"ports": scripttest.Ports, "ready": scripttest.Ready, "keep": scripttest.Keep,
				},
				Setup: func(env *testscript.Env) error {
					env.Setenv("REDIS", address)
					env.Setenv("VERSION", story.version)
					env.Setenv("IDLE", story.idle)
					env.Setenv("AGE", story.age)
					env.Setenv("SCONCE_REDIS_TIMEOUT", "2s")
					env.Setenv("SCONCE_REDIS_DIAL_TIMEOUT", "2s")
					env.Setenv("HOME", os.Getenv("HOME"))
					env.Setenv("PATH", filepath.Join(env.WorkDir, "bin")+":"+filepath.Dir(w.gate.binary)+":"+os.Getenv("PATH"))
					env.Setenv("LAUNCH", fmt.Sprintf("{preset: %s, python: %q, %s}", preset, filepath.Join(env.WorkDir, "venv", "bin", "python"),
						strings.ReplaceAll(lake[preset], "shop", "default"))) // else Sail has no tables to show
					return gated(env.WorkDir, filepath.Join(w.cache, "venv", preset), story.program, story.client.path(w))
				},
			})
		})
	}
}

// gated makes, in a folder, a venv as another one, whose engine starts once there is a
// file gate, and the program tables.
func gated(dir, venv, program, client string) error {
	text := func(name, format string, a ...any) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, []byte("#!/bin/sh\n"+fmt.Sprintf(format, a...)), 0o700) //nolint:gosec // it is run
	}
	tables, err := filepath.Abs(filepath.Join("py", "tables.py"))
	if err != nil {
		return err
	}
	for _, err := range []error{
		text("venv/bin/python", "exec '%s/bin/python' \"$@\"\n", venv),
		text("venv/bin/"+program, "until [ -e '%s/gate' ]; do sleep 0.05; done\nexec '%s/bin/%s' \"$@\"\n", dir, venv, program),
		text("bin/tables", "exec '%s' '%s' '%s/state' \"$@\"\n", client, tables, dir),
		os.Symlink(filepath.Join(venv, "lib"), filepath.Join(dir, "venv", "lib")),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}
