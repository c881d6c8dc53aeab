package launch

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// sail ends cleanly by SIGINT alone: SIGTERM ends it without clean-up, and not at
// all where it is the first process of a container.
func sail() Preset {
	return Preset{
		Name: "sail", Title: "Sail", Setup: "setup-sail", distribution: "pysail",
		StartTimeout: time.Minute, StopTimeout: 5 * time.Second, StopSignal: syscall.SIGINT,
		check: checkSail, command: sailCommand,
		says: regexp.MustCompile(`Starting the Spark Connect server on (127\.0\.0\.1:\d+)`),
	}
}

func checkSail(_ context.Context, e Engine, _ []string) error {
	if _, err := os.Stat(beside(e.Python, "sail")); err != nil {
		return fmt.Errorf("no Sail beside %s: run `make setup-sail`, or name a Python that has the package pysail (--python, or launch.python)", e.Python)
	}
	return nil
}

func sailCommand(e Engine, s Start) (argv, env []string) {
	argv = []string{beside(e.Python, "sail"), "spark", "server", "--ip", "127.0.0.1", "--port", strconv.Itoa(s.Port)}
	env = append(append(env, s.Environ...), "PYTHONUNBUFFERED=1")
	if s.Port == 0 { // the line with the real one is of level info
		env = append(env, "RUST_LOG=warn,sail_cli=info")
	}
	if s.KeepFor > 0 {
		env = append(env, "SAIL_SPARK__SESSION_TIMEOUT_SECS="+seconds(s.KeepFor))
	}
	if e.Memory > 0 {
		env = append(env, "SAIL_RUNTIME__MEMORY_POOL__TYPE=greedy",
			"SAIL_RUNTIME__MEMORY_POOL__GREEDY__MAX_SIZE="+strconv.FormatInt(e.Memory, 10))
	}
	if e.Cores > 0 {
		env = append(env, "SAIL_EXECUTION__DEFAULT_PARALLELISM="+strconv.Itoa(e.Cores))
	}
	if s.Dir != "" {
		env = append(env, fmt.Sprintf("SAIL_RUNTIME__TEMPORARY_FILES__PATHS=[%q]", s.Dir))
	}
	return argv, env
}

// seconds are whole ones, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
