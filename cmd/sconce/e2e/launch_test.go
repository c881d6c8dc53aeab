package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/launch"
	"github.com/sconce-dev/sconce/sessions/launch/launchtest"
)

// TestLaunch runs the suite of launchers with the real engines, under keepers that
// are the real binary.
func TestLaunch(t *testing.T) {
	w := needs(t)
	for _, preset := range []string{"sail", "spark"} {
		t.Run(preset, func(t *testing.T) {
			dir := t.TempDir()
			launchtest.Run(t, launchtest.Subject{
				Cluster: preset,
				New: func(t *testing.T) sessions.Launcher {
					l := launcherOf(t, w, preset, dir)
					ctx, cancel := context.WithCancel(context.Background())
					ended := make(chan error, 1)
					go func() { ended <- l.Run(ctx) }()
					t.Cleanup(func() {
						cancel()
						if err := <-ended; err != nil {
							t.Error(err)
						}
					})
					return l
				},
				Kill: func(t *testing.T, in sessions.Instance) {
					if err := syscall.Kill(enginePID(t, dir, preset, in), syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				},
			})
			if left := below(t, dir); len(left) > 0 {
				t.Errorf("still running: %v", left)
			}
		})
	}
}

// TestLaunchTellsTheEngine: what an engine is told arrives, and its secrets are
// nowhere that others can read.
func TestLaunchTellsTheEngine(t *testing.T) {
	w := needs(t)
	for preset, want := range map[string][]string{
		"sail": {
			"SAIL_SPARK__SESSION_TIMEOUT_SECS=5400", "SAIL_RUNTIME__MEMORY_POOL__TYPE=greedy",
			"SAIL_RUNTIME__MEMORY_POOL__GREEDY__MAX_SIZE=1073741824", "SAIL_EXECUTION__DEFAULT_PARALLELISM=2",
		},
		"spark": {
			"spark.connect.session.manager.defaultSessionTimeout=5400s", "spark.driver.memory=1024m", "spark.driver.cores=2",
			"spark.master=local[2]", "-Xmx1024m",
		},
	} {
		t.Run(preset, func(t *testing.T) {
			dir := t.TempDir()
			l := launcherOf(t, w, preset, dir)
			in, err := l.Launch(t.Context(), sessions.LaunchSpec{Cluster: preset, Session: "s-1", Generation: 1, KeepFor: 90 * time.Minute}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := l.Stop(context.Background(), in); err != nil {
					t.Error(err)
				}
			}()
			if in.Version == "" || (in.Token != "") != (preset == "spark") {
				t.Errorf("version %q, token: %v", in.Version, in.Token != "")
			}
			proc := filepath.Join("/proc", strconv.Itoa(enginePID(t, dir, preset, in)))
			argv, environ := content(t, proc+"/cmdline"), content(t, proc+"/environ")
			for _, w := range want {
				if !strings.Contains(argv+"\x00"+environ, w) {
					t.Errorf("the engine is not told %s", w)
				}
			}
			if in.Token != "" && strings.Contains(argv, in.Token) || strings.Contains(argv, "conf-secret") {
				t.Error("a secret is in the arguments")
			}
			if strings.Contains(environ, "SCONCE_E2E_SECRET") {
				t.Error("the engine sees Sconce's environment")
			}
			if preset == "spark" {
				if page, err := http.Get(in.UI + "/jobs/"); err != nil || page.Body.Close() != nil || page.StatusCode != http.StatusOK {
					t.Errorf("its pages at %q: %v, %v", in.UI, page, err)
				}
			}
			if preset == "spark" && !strings.Contains(content(t, filepath.Join(dir, preset, in.ID, "work", "spark.properties")), "conf-secret") {
				t.Error("conf is not in its file")
			}
			stranger := &sessions.Cluster{Name: preset, Address: in.Address, Token: "another"}
			if err := (sessions.EngineClient{}).Probe(t.Context(), stranger); (err != nil) != (preset == "spark") {
				t.Errorf("with another token: %v", err)
			}
		})
	}
}

// launcherOf starts engines as `sconce serve` does.
func launcherOf(t *testing.T, w *world, preset, dir string) *launch.Process {
	t.Helper()
	engine := launch.Engine{
		Preset: preset, Python: filepath.Join(w.cache, "venv", preset, "bin", "python"), Memory: 1 << 30, Cores: 2,
	}
	if preset == "spark" {
		engine.Spark.Conf = []string{"spark.hadoop.fs.s3a.secret.key=conf-secret", "spark.ui.enabled=true", "spark.ui.port=0"}
	}
	l, err := launch.New(launch.Config{
		Cluster: preset, Engine: engine, StateDir: dir, Keeper: []string{w.gate.binary, "keep-engine"},
		Environ: append(os.Environ(), "SCONCE_E2E_SECRET=x"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func enginePID(t *testing.T, dir, cluster string, in sessions.Instance) int {
	t.Helper()
	pid, err := pidIn(filepath.Join(dir, cluster, in.ID))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// pidIn is the process of the engine that lives in a folder.
func pidIn(folder string) (int, error) {
	text, err := os.ReadFile(filepath.Join(folder, "pid"))
	if err != nil {
		return 0, err
	}
	var p struct{ PID int }
	if err := json.Unmarshal(text, &p); err != nil {
		return 0, fmt.Errorf("no pid in %s: %w", folder, err)
	}
	if p.PID < 2 {
		return 0, fmt.Errorf("pid %d in %s", p.PID, folder)
	}
	return p.PID, nil
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// below lists the processes that work in a folder below dir.
func below(t *testing.T, dir string) (list []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, dir+"/") {
			list = append(list, link)
		}
	}
	return list
}
