//go:build failpoints

package failpoint

import (
	"os"
	"strings"
	"sync"
	"syscall"
)

var once sync.Once

// Hit ends or stops the process where the environment names this point.
func Hit(name string) {
	point, stop := strings.CutPrefix(os.Getenv("SCONCE_FAILPOINT"), "stop:")
	switch {
	case point != name:
	case stop:
		once.Do(func() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) })
	default:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
