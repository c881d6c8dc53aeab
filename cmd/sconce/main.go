package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sconce-dev/sconce/configs"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// Exit codes; see doc.go.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitCut    = 3
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	a := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		environ: os.Environ(), now: time.Now, signals: signals, hangups: hangups,
	}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// app is what a command has of the world around it.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	now            func() time.Time
	// signals carries SIGINT and SIGTERM.
	signals <-chan os.Signal
	// hangups begins to catch SIGHUP, which else ends the process, until silence.
	hangups func() (caught <-chan os.Signal, silence func())
}

func hangups() (caught <-chan os.Signal, silence func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// env returns a variable of the environment, or "".
func (a *app) env(name string) string {
	for _, kv := range a.environ {
		if len(kv) > len(name) && kv[len(name)] == '=' && kv[:len(name)] == name {
			return kv[len(name)+1:]
		}
	}
	return ""
}

// usageError is a command that was used wrongly.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// errCut: streams were cut because somebody would not wait.
var errCut = errors.New("stopped at once: streams that were running are cut")

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(a.stderr, "sconce: %v\n", err)
	var usage usageError
	var faults configs.Faults
	switch {
	case errors.As(err, &usage), errors.As(err, &faults):
		return exitUsage
	case errors.Is(err, errCut):
		return exitCut
	}
	return exitFailed
}

// interruptible returns a context that ends with the first signal.
func (a *app) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case s := <-a.signals:
			cancel(fmt.Errorf("stopped by %s", s))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
