package launch

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/failpoint"
)

const reasonGivenUp = "its start was given up"

// portTries is how often a start is tried anew because somebody took its port.
const portTries = 3

// errLate: the engine had its whole start timeout.
var errLate = errors.New("start timeout")

// errPortTaken: the port that was free a moment ago is another's.
var errPortTaken = errors.New("its port was taken")

// Launch brings an engine up. An error is a *sessions.LaunchError.
func (p *Process) Launch(ctx context.Context, spec sessions.LaunchSpec, stage func(string)) (sessions.Instance, error) {
	if stage == nil {
		stage = func(string) {}
	}
	if err := p.ready(ctx); err != nil && ctx.Err() != nil {
		return sessions.Instance{}, &sessions.LaunchError{Cluster: p.cfg.Cluster, Reason: reasonGivenUp}
	} else if err != nil {
		p.log.Error("no engine can be started", zap.Error(err))
		return sessions.Instance{}, &sessions.LaunchError{
			Cluster: p.cfg.Cluster, Reason: "what it needs is not there as it is configured; whoever runs Sconce finds more in its log", Final: true,
		}
	}
	for try := 1; ; try++ {
		in, err := p.launch(ctx, spec, stage)
		if err == nil {
			return in, nil
		}
		if !errors.Is(err, errPortTaken) || try == portTries {
			return in, p.launchError(err)
		}
	}
}

// launchError is err in the interface's form.
func (p *Process) launchError(err error) error {
	var le *sessions.LaunchError
	if errors.As(err, &le) {
		return le
	}
	p.log.Error("an engine could not be started", zap.Error(err))
	return &sessions.LaunchError{Cluster: p.cfg.Cluster, Reason: reason(err)}
}

// ready checks what an engine needs, until it has been there once.
func (p *Process) ready(ctx context.Context) error {
	p.mu.Lock()
	checked := p.checked
	p.mu.Unlock()
	if checked {
		return nil
	}
	err := p.Check(ctx)
	p.mu.Lock()
	p.checked = err == nil
	p.mu.Unlock()
	return err
}

// launch is one try.
func (p *Process) launch(ctx context.Context, spec sessions.LaunchSpec, stage func(string)) (sessions.Instance, error) {
	l := &launch{Process: p, spec: spec, folder: folder(p.dir + "/" + newID(p.cfg.Cluster))}
	ctx, cancel := context.WithTimeoutCause(ctx, p.engine.StartTimeout, errLate)
	defer cancel()
	if err := p.touch(); err != nil {
		return sessions.Instance{}, err
	}
	stage("starting " + p.preset.Title)
	err := l.begin()
	failpoint.Hit("launch.begun")
	if err == nil {
		stage("waiting for " + p.preset.Title + " to serve")
		err = l.serve(ctx)
	}
	if err == nil {
		err = l.commit()
	}
	if err != nil {
		return sessions.Instance{}, l.giveUp(ctx, err)
	}
	return l.in, nil
}

// launch is one engine on its way up.
type launch struct {
	*Process
	spec   sessions.LaunchSpec
	folder folder
	in     sessions.Instance
	port   int // that was picked; 0 = the engine picks
	keeper process
	pipe   *os.File // to the keeper
}

// begin starts the keeper and gives it its order.
func (l *launch) begin() error {
	lock, err := l.folder.make()
	if err != nil {
		return err
	}
	defer lock.Close()
	home, err := l.home()
	if err != nil {
		return err
	}
	l.in = sessions.Instance{ID: l.folder.id(), Home: home, Version: version(l.engine.Python, l.preset.distribution), StartedAt: l.cfg.Now()}
	if l.preset.asks {
		l.in.Token = rand.Text()
	}
	o, err := l.order()
	if err != nil {
		return err
	}
	stdin, pipe, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	l.pipe = pipe
	cmd := exec.Command(l.cfg.Keeper[0], l.cfg.Keeper[1:]...) //nolint:gosec // ourselves
	if l.cfg.Argv0 != "" {
		cmd.Args[0] = l.cfg.Argv0
	}
	cmd.Env, cmd.Dir = l.environ(), string(l.folder)
	cmd.Stdin, cmd.ExtraFiles = stdin, []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no signal for us is for it
	if err := cmd.Start(); err != nil {
		return err
	}
	l.keeper = identify(cmd.Process.Pid)
	l.mu.Lock()
	l.keepers[l.in.ID] = cmd
	l.mu.Unlock()
	return json.NewEncoder(pipe).Encode(o)
}

// order says what to run.
func (l *launch) order() (order, error) {
	if l.preset.says == nil && l.needsPort() {
		var err error
		if l.port, err = freePort(); err != nil {
			return order{}, err
		}
		l.in.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port))
	}
	if len(l.engine.Spark.Conf) > 0 || l.preset.Name == "spark" {
		if err := os.WriteFile(l.folder.path(fileWork)+"/"+sparkProperties, l.engine.Spark.properties(), 0o600); err != nil {
			return order{}, err
		}
	}
	argv, env, err := l.engine.Argv(Start{
		Name: "sconce " + l.in.ID, Port: l.port, Dir: l.folder.path(fileWork), Token: l.in.Token, KeepFor: l.spec.KeepFor, Environ: l.environ(),
	})
	return order{
		Folder: l.folder, Argv: argv, Env: env, StopSignal: l.engine.StopSignal, StopTimeout: l.engine.StopTimeout,
		Heartbeat: l.heartbeat(), OrphanAfter: l.cfg.OrphanAfter,
	}, err
}

func (l *launch) needsPort() bool { return l.engine.Preset == "" }

// freePort is a loopback port on which nobody listens right now.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// Waiting for an engine: how often it is looked at, and how long one question may take.
const (
	askEvery = 50 * time.Millisecond
	askLimit = 10 * time.Second
)

// serve returns when the engine answers, has ended, or takes too long.
func (l *launch) serve(ctx context.Context) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		if kept, err := l.folder.kept(); err != nil {
			return err
		} else if !kept {
			return l.died()
		}
		if l.answers(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return l.late(ctx)
		}
	}
}

// answers asks the engine once, and whether it is the one that was started.
func (l *launch) answers(ctx context.Context) bool {
	if l.in.Address == "" {
		l.in.Address = l.found(l.preset.says)
	}
	if l.in.Address == "" {
		return false
	}
	if l.port != 0 && !listens(mark(l.in.ID), l.port) {
		return false
	}
	if l.in.UI == "" && l.preset.shows != nil {
		if port := l.found(l.preset.shows); port != "" { // which it says before its address
			l.in.UI = "http://127.0.0.1:" + port
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	err := l.cfg.Probe(ctx, &sessions.Cluster{Name: l.cfg.Cluster, Address: l.in.Address, Token: l.in.Token})
	return err == nil
}

// found is what the engine wrote into its log, such as its address; "" = not yet.
func (l *launch) found(says *regexp.Regexp) string {
	b, err := os.ReadFile(l.folder.path(fileLog))
	if err != nil {
		return ""
	}
	if m := says.FindSubmatch(b[:bytes.LastIndexByte(b, '\n')+1]); m != nil {
		return string(m[1])
	}
	return ""
}

// died says why an engine ended before it served.
func (l *launch) died() error {
	log := l.lastLines(l.folder, l.in.Token)
	if l.port != 0 && strings.Contains(strings.ToLower(log), "address already in use") {
		return errPortTaken
	}
	return &sessions.LaunchError{Cluster: l.cfg.Cluster, Reason: "it ended while it started: " + l.folder.ended().Reason, Log: log}
}

// late says that there was not enough time, or nobody who wanted to wait.
func (l *launch) late(ctx context.Context) error {
	why := fmt.Sprintf("it does not serve after %s", l.engine.StartTimeout)
	if !errors.Is(context.Cause(ctx), errLate) {
		why = reasonGivenUp
	}
	return &sessions.LaunchError{Cluster: l.cfg.Cluster, Reason: why, Log: l.lastLines(l.folder, l.in.Token)}
}

// commit makes the engine one that others find, and then one that outlives us. A
// crash between the two ends it.
func (l *launch) commit() error {
	defer l.pipe.Close()
	err := l.folder.write(fileRecord, record{
		Format: recordFormat, Launched: sessions.Launched{Instance: l.in, Spec: l.spec},
		Hash: l.hash, Keeper: l.keeper, StopTimeout: l.engine.StopTimeout,
	})
	if err != nil {
		return err
	}
	failpoint.Hit("launch.recorded")
	if err := json.NewEncoder(l.pipe).Encode(orderKept); err != nil {
		return l.died()
	}
	failpoint.Hit("launch.kept")
	l.know(l.in)
	return nil
}

// giveUp ends what was begun, and returns err when nothing of it runs.
func (l *launch) giveUp(ctx context.Context, err error) error {
	if l.pipe != nil {
		l.pipe.Close() // the keeper kills the engine
	}
	if werr := l.await(context.WithoutCancel(ctx), l.folder, stopSlack, l.keeper); werr != nil {
		l.log.Error("an engine that was given up may still run", zap.String("engine", l.in.ID), zap.Error(werr))
	}
	if rerr := l.remove(l.folder); rerr != nil {
		l.log.Warn("what is left of an engine cannot be removed", zap.String("engine", l.in.ID), zap.Error(rerr))
	}
	return err
}
