package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/launch"
)

func findEngine(name string) (launch.Preset, error) {
	var names []string
	for _, k := range launch.Presets() {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return launch.Preset{}, usageError{fmt.Errorf("--cluster %q: write one of %s", name, strings.Join(names, ", "))}
}

// devEngine is what `sconce dev` starts.
func devEngine(kind launch.Preset, python string) launch.Engine {
	e := launch.Engine{Preset: kind.Name, Python: python}
	if kind.Name == "spark" {
		e.Memory, e.Cores = 1<<30, 2
	}
	return e
}

// engine is one that runs. It is a part of this process, and no launcher's: it
// ends with us, and sees the whole environment of who started us.
type engine struct {
	kind    launch.Preset
	address string
	*launch.Program
}

// startEngine starts a server and waits until it serves. A port of 0 means any
// that is free.
func startEngine(ctx context.Context, kind launch.Preset, python string, port int, log string) (*engine, error) {
	port, err := loopbackPort(port)
	if err != nil {
		return nil, err
	}
	argv, env, err := devEngine(kind, python).Argv(launch.Start{Name: "sconce dev", Port: port, Environ: os.Environ()})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	p, err := launch.Begin(cmd, log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", kind.Title, err)
	}
	e := &engine{kind: kind, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Program: p}
	if err := e.await(ctx); err != nil {
		e.end()
		return nil, err
	}
	return e, nil
}

// loopbackPort returns want if it is free, or one that is.
func loopbackPort(want int) (int, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(want))
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return 0, listenError("--engine-port", address, err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// probeEvery is how often a server that starts is asked.
const probeEvery = 100 * time.Millisecond

// await returns when the server serves, has ended, or takes too long.
func (e *engine) await(ctx context.Context) error {
	limit := time.NewTimer(e.kind.StartTimeout)
	defer limit.Stop()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		err := e.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-e.Done():
			return e.Failure(e.kind.Title)
		case <-limit.C:
			return fmt.Errorf("%s does not answer after %s: %w: the end of %s:\n%s", e.kind.Title, e.kind.StartTimeout, err, e.Log, e.Tail(12))
		case <-tick.C:
		}
	}
}

// probe asks once whether the server serves.
func (e *engine) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return sessions.EngineClient{}.Probe(ctx, &sessions.Cluster{Name: e.kind.Name, Address: e.address})
}

// end stops the server; when it returns, nothing of it runs.
func (e *engine) end() { e.Stop(e.kind.StopSignal, e.kind.StopTimeout) }
