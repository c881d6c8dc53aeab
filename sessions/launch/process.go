package launch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

// Config is what a Process is made of.
type Config struct {
	// Cluster is whose engines these are: lower-case letters, digits, dashes.
	Cluster string
	Engine  Engine
	// StateDir is where all Sconces of this machine keep what they know of
	// engines; it is made with mode 0700. It must not be shared between machines.
	StateDir string
	// Keeper is the command that runs Keep, `sconce keep-engine`. Argv0 is what it
	// is called; "" = its path.
	Keeper []string
	Argv0  string
	// OrphanAfter is how long engines go on when no Sconce is there; 0 = a minute.
	OrphanAfter time.Duration
	// Environ is Sconce's own environment, of which engines see what Inherit
	// lists; nil = the real one.
	Environ []string
	// Probe asks whether an engine serves; nil = sessions.EngineClient's.
	Probe func(context.Context, *sessions.Cluster) error
	// OnExit hears of each engine that this process launched or listed, and that
	// then ended by itself, once. It comes from Run and must not block.
	OnExit func(sessions.Instance, error)
	// Now is the clock of what is shown to people; nil = time.Now.
	Now    func() time.Time
	Logger *zap.Logger // nil = none
}

// Process launches engines as programs on this machine. It is a sessions.Launcher.
type Process struct {
	cfg    Config
	preset Preset
	engine Engine
	hash   string
	dir    string // of the cluster
	log    *zap.Logger

	mu      sync.Mutex
	place   string                       // see home
	checked bool                         // Check has passed
	known   map[string]sessions.Instance // engines to hear of in OnExit
	keepers map[string]*exec.Cmd         // our children, to be waited for
}

// New checks the configuration. It starts nothing; Run must be called for engines
// to live longer than Config.OrphanAfter.
func New(cfg Config) (*Process, error) {
	switch {
	case !idForm.MatchString(cfg.Cluster):
		return nil, fmt.Errorf("cluster %q: write lower-case letters, digits and dashes", cfg.Cluster)
	case cfg.StateDir == "":
		return nil, fmt.Errorf("cluster %s: no state folder", cfg.Cluster)
	case len(cfg.Keeper) == 0:
		return nil, fmt.Errorf("cluster %s: no keeper", cfg.Cluster)
	case cfg.Engine.Preset == "" && len(cfg.Engine.Command) == 0:
		return nil, fmt.Errorf("cluster %s: neither a preset nor a command", cfg.Cluster)
	}
	preset, err := cfg.Engine.preset()
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cfg.Cluster, err)
	}
	if cfg.StateDir, err = filepath.Abs(cfg.StateDir); err != nil {
		return nil, err
	}
	if cfg.OrphanAfter == 0 {
		cfg.OrphanAfter = time.Minute
	}
	if cfg.Environ == nil {
		cfg.Environ = os.Environ()
	}
	if cfg.Probe == nil {
		cfg.Probe = sessions.EngineClient{}.Probe
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	return &Process{
		cfg: cfg, preset: preset, engine: cfg.Engine.withDefaults(preset), hash: cfg.Engine.hash(),
		dir: filepath.Join(cfg.StateDir, cfg.Cluster), log: cfg.Logger.With(zap.String("cluster", cfg.Cluster)),
		known: map[string]sessions.Instance{}, keepers: map[string]*exec.Cmd{},
	}, nil
}

// Check says what is missing before an engine could start.
func (p *Process) Check(ctx context.Context) error { return p.engine.Check(ctx, p.environ()) }

func (p *Process) environ() []string { return inherited(p.cfg.Environ) }

func (p *Process) heartbeat() string { return filepath.Join(p.dir, "heartbeat") }

// touch tells the keepers that a Sconce is there.
func (p *Process) touch() error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	now := time.Now()
	err := os.Chtimes(p.heartbeat(), now, now)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(p.heartbeat(), nil, 0o600)
}

// folder is that of an engine; an id comes from a registry, and is no path.
func (p *Process) folder(id string) (folder, error) {
	if !idForm.MatchString(id) {
		return "", fmt.Errorf("cluster %s: %q is no engine of it", p.cfg.Cluster, id)
	}
	return folder(filepath.Join(p.dir, id)), nil
}

// folders are those of all engines, running or not.
func (p *Process) folders() ([]folder, error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []folder
	for _, e := range entries {
		if e.IsDir() && idForm.MatchString(e.Name()) {
			list = append(list, folder(filepath.Join(p.dir, e.Name())))
		}
	}
	return list, err
}

// Running lists the engines that serve, whoever started them. One that is being
// started is not there yet: it ends with the process that starts it.
func (p *Process) Running(context.Context) ([]sessions.Launched, error) {
	list, _, err := p.records()
	var out []sessions.Launched
	for _, r := range list {
		out = append(out, r.Launched)
	}
	return out, err
}

// records are those of the engines that serve; unread is how many others there may be
// of which the error is.
func (p *Process) records() (list []record, unread int, err error) {
	folders, err := p.folders()
	if err != nil {
		return nil, 0, err
	}
	var faults []error
	for _, f := range folders {
		kept, err := f.kept()
		if err != nil {
			faults = append(faults, err)
		}
		if !kept {
			continue
		}
		r, err := f.record()
		switch {
		case err == nil:
			list = append(list, r)
			p.know(r.Instance)
		case !errors.Is(err, fs.ErrNotExist):
			faults = append(faults, err)
		}
	}
	return list, len(faults), errors.Join(faults...)
}

func (p *Process) know(in sessions.Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[in.ID] = in
}

func (p *Process) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, id)
}

// Ended is why an engine does not run. It is a sessions.ErrGone.
type Ended struct {
	// Reason is for people, without paths: "exit status 3".
	Reason string
	// Log is the last lines that the engine wrote; "" = none. They may hold what
	// people wrote: they are for the owner, and not for Sconce's log.
	Log string
}

func (e *Ended) Error() string { return sessions.ErrGone.Error() + ": " + e.Reason }
func (e *Ended) Unwrap() error { return sessions.ErrGone }

// Alive says whether an engine runs, or an *Ended. Of another machine's it can't tell.
func (p *Process) Alive(_ context.Context, in sessions.Instance) error {
	if !p.Reaches(in) {
		return fmt.Errorf("engine %s: %w", in.ID, errElsewhere)
	}
	f, err := p.folder(in.ID)
	if err != nil {
		return err
	}
	kept, err := f.kept()
	if kept || err != nil {
		return err
	}
	return p.gone(f, in.Token)
}

// gone says why an engine ended.
func (p *Process) gone(f folder, token string) *Ended {
	if _, err := os.Stat(string(f)); err != nil {
		return &Ended{Reason: "it was stopped"}
	}
	return &Ended{Reason: f.ended().Reason, Log: p.lastLines(f, token)}
}

// logLines is how many lines of a log people are shown.
const logLines = 20

func (p *Process) lastLines(f folder, token string) string {
	text, err := tail(f.path(fileLog), logLines)
	if err != nil {
		return ""
	}
	text = strings.ReplaceAll(text, string(f), "…")
	return p.engine.redact(text, token)
}

// Stop ends an engine in the way that suits it.
func (p *Process) Stop(ctx context.Context, in sessions.Instance) error {
	if !p.Reaches(in) {
		return fmt.Errorf("stop engine %s: %w", in.ID, errElsewhere)
	}
	f, err := p.folder(in.ID)
	if err != nil {
		return err
	}
	p.forget(in.ID) // an end that was asked for is no news
	stopTimeout := p.engine.StopTimeout
	r, err := f.record()
	if err == nil {
		stopTimeout = r.StopTimeout
	}
	if err := p.ask(f, r.Keeper); err != nil {
		return fmt.Errorf("stop engine %s: %w", in.ID, err)
	}
	if err := p.await(ctx, f, stopTimeout+stopSlack, r.Keeper); err != nil {
		return fmt.Errorf("stop engine %s: %w", in.ID, err)
	}
	return p.remove(f)
}

// ask tells the keeper to stop: by a file, which anybody on the machine can write
// and which stays, and by a signal, which is quick.
func (p *Process) ask(f folder, keeper process) error {
	err := os.WriteFile(f.path(fileStop), nil, 0o600)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	keeper.signal(syscall.SIGTERM)
	return nil
}

// stopSlack is what a keeper may take beyond the time that the engine has.
const stopSlack = 5 * time.Second

// lookEvery is how often a folder is looked at for a change that is awaited.
const lookEvery = 25 * time.Millisecond

// await returns when the keeper has ended. One that does not within limit is
// killed with its engine.
func (p *Process) await(ctx context.Context, f folder, limit time.Duration, keeper process) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if kept, err := f.kept(); !kept || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-timer.C:
			keeper.signal(syscall.SIGKILL) // and the kernel kills the engine
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// remove clears away after a keeper that has ended, also one that was killed.
func (p *Process) remove(f folder) error {
	if e := f.engine(); e.PID > 1 && e.Start != 0 && startTime(e.PID) == e.Start {
		signalGroup(e.PID, syscall.SIGKILL)
	}
	sweep(mark(f.id()))
	p.reap(f.id())
	err := os.RemoveAll(string(f))
	for range 10 {
		if err == nil {
			break
		}
		time.Sleep(lookEvery) // somebody else who stops it wrote a file just now
		err = os.RemoveAll(string(f))
	}
	return err
}

// reap waits for a keeper that was our child and has ended.
func (p *Process) reap(id string) {
	p.mu.Lock()
	cmd := p.keepers[id]
	delete(p.keepers, id)
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Wait() // how is in exit.json
	}
}

// newID names an engine for ever.
func newID(cluster string) string { return cluster + "-" + strings.ToLower(rand.Text()[:16]) }
