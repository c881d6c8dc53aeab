package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/configs"
	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/sessions/launch"
)

// devFlags is what `sconce dev` is told.
type devFlags struct {
	cluster    string
	listen     string
	python     string
	enginePort int
	noQuery    bool
}

func (a *app) devCommand() *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use: "dev", Short: "Run the gateway with everything it needs, on this machine", Args: noArgs,
		Long: `Run the gateway with everything it needs, on this machine: a Redis inside this process,
a Spark Connect server beside it, keys and certificates in .sconce (or $SCONCE_STATE), a
session and a token. It sends one query through the port, prints how to connect, and
stays until Ctrl-C. Nothing is left running.`,
		Example: "  make run        # prepares a Python with Sail and PySpark, then runs this\n  sconce dev --cluster spark --python .cache/venv/spark/bin/python",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.cluster, "cluster", "sail", "the Spark Connect server: sail, or spark (needs Java 17)")
	cmd.Flags().StringVar(&f.listen, "listen", "localhost:8085", "host:port of the gateway")
	cmd.Flags().StringVar(&f.python, "python", "", "Python with that server and PySpark (default: $SCONCE_PYTHON, or the one that make prepared)")
	cmd.Flags().IntVar(&f.enginePort, "engine-port", 0, "loopback port of the Spark Connect server (default: any that is free)")
	cmd.Flags().BoolVar(&f.noQuery, "no-query", false, "send no query")
	return cmd
}

// devSubject is who the developer is to the gateway.
const (
	devSubject  = "dev"
	devOrg      = "dev"
	devSession  = "dev"
	devLifetime = 24 * time.Hour
)

// development is one run of `sconce dev`.
type development struct {
	app      *app
	flags    devFlags
	kind     launch.Preset
	dir      stateDir
	python   string
	endpoint string // host:port by which clients here reach the port
	story    *story

	redis  *miniredis.Miniredis
	engine *engine
}

func (a *app) dev(ctx context.Context, f devFlags) error {
	kind, err := findEngine(f.cluster)
	if err != nil {
		return err
	}
	d := &development{app: a, flags: f, kind: kind, dir: a.stateDir(), story: newStory(a.stdout, a.now)}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cut := make(chan struct{})
	go a.stopTwiceQuietly(ctx, stop, cut)
	err = d.run(ctx, cut)
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// errInterrupted: Ctrl-C, which is how it should end.
var errInterrupted = errors.New("interrupted")

// stopTwiceQuietly turns the first signal into stop and the second into cut.
func (a *app) stopTwiceQuietly(ctx context.Context, stop context.CancelCauseFunc, cut chan<- struct{}) {
	select {
	case <-a.signals:
		stop(errInterrupted)
	case <-ctx.Done():
	}
	<-a.signals
	close(cut)
}

// run does one thing after the other, and undoes them in turn.
func (d *development) run(ctx context.Context, cut <-chan struct{}) error {
	fmt.Fprintf(d.app.stdout, "sconce dev, with %s; Ctrl-C ends it\n", d.kind.Title)
	cfg, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	if err := d.startRedis(cfg); err != nil {
		return err
	}
	defer d.redis.Close()
	defer d.passTime()()
	if err := d.startEngine(ctx, cfg); err != nil {
		return err
	}
	defer d.stopEngine()
	return d.serve(ctx, cfg, cut)
}

// prepare checks what can be checked before anything is started.
func (d *development) prepare(ctx context.Context) (*configs.Config, error) {
	var err error
	if d.python, err = d.findPython(); err != nil {
		return nil, err
	}
	if err := devEngine(d.kind, d.python).Check(ctx, os.Environ()); err != nil {
		return nil, err
	}
	host, err := d.checkListen()
	if err != nil {
		return nil, err
	}
	if err := d.makeKeys(host); err != nil {
		return nil, err
	}
	cfg := configs.Default()
	cfg.Listen, cfg.Endpoint, cfg.Admin.Listen = d.flags.listen, d.endpoint, ""
	cfg.TLS.Cert, cfg.TLS.Key = d.dir.path(stateCert), d.dir.path(stateKey)
	cfg.Auth.SigningKey, cfg.Auth.TokenLifetime = d.dir.path(stateSigning), devLifetime
	cfg.Auth.Operators = []configs.Operator{{Organisation: devOrg, Subject: devSubject}}
	cfg.DrainTimeout = 10 * time.Second
	cfg.Log.Format = "console"
	return cfg, nil
}

// checkListen fails early where the port is taken, and works out the endpoint.
func (d *development) checkListen() (host string, err error) {
	host, port, err := net.SplitHostPort(d.flags.listen)
	if err != nil {
		return "", usageError{fmt.Errorf("--listen %q: write host:port, such as %s", d.flags.listen, defaultEndpoint)}
	}
	ln, err := net.Listen("tcp", d.flags.listen)
	if err != nil {
		return "", listenError("--listen", d.flags.listen, err)
	}
	ln.Close()
	d.endpoint = net.JoinHostPort("localhost", port)
	if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
		d.endpoint = d.flags.listen
	}
	return host, nil
}

// findPython returns the Python of the flag, the environment or the make target.
func (d *development) findPython() (string, error) {
	python := d.flags.python
	if python == "" {
		python = d.app.env("SCONCE_PYTHON")
	}
	if python == "" {
		python = filepath.Join(".cache", "venv", d.kind.Name, "bin", "python")
	}
	if _, err := os.Stat(python); err != nil {
		return "", fmt.Errorf("no Python at %s: run `make %s` in Sconce's folder, or name one with --python", python, d.kind.Setup)
	}
	return filepath.Abs(python)
}

// makeKeys sees to the state folder: authority, certificate, signing key.
func (d *development) makeKeys(host string) error {
	if err := d.dir.make(); err != nil {
		return err
	}
	authority, err := openAuthority(d.dir, d.app.now)
	if err != nil {
		return err
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		hosts = append(hosts, host)
	}
	if err := authority.leaf(hosts); err != nil {
		return err
	}
	if _, err := auth.LoadSigningKey(d.dir.path(stateSigning)); errors.Is(err, os.ErrNotExist) {
		_, err = makeKey(auth.ES256, d.dir.path(stateSigning))
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	d.story.step("keys and certificates in %s", d.dir)
	return nil
}

// startRedis runs a Redis in this process, with a password, since any user of
// this machine can reach its port.
func (d *development) startRedis(cfg *configs.Config) error {
	d.redis = miniredis.NewMiniRedis()
	password := rand.Text()
	d.redis.RequireAuth(password)
	if err := d.dir.write(stateRedis, []byte(password)); err != nil {
		return err
	}
	if err := d.redis.StartAddr("127.0.0.1:0"); err != nil {
		return fmt.Errorf("start the embedded Redis: %w", err)
	}
	cfg.Redis.Addresses, cfg.Redis.PasswordFile = []string{d.redis.Addr()}, d.dir.path(stateRedis)
	d.story.step("Redis, in this process, at %s", d.redis.Addr())
	return nil
}

// passTime has keys of the embedded Redis expire, which knows no time of its own.
func (d *development) passTime() (stop func()) {
	tick, over := time.NewTicker(time.Second), make(chan struct{})
	go func() {
		for {
			select {
			case <-tick.C:
				d.redis.FastForward(time.Second)
			case <-over:
				return
			}
		}
	}()
	return func() { tick.Stop(); close(over) }
}

func (d *development) startEngine(ctx context.Context, cfg *configs.Config) (err error) {
	d.story.begin("%s starts ...", d.kind.Title)
	d.engine, err = startEngine(ctx, d.kind, d.python, d.flags.enginePort, d.dir.path(d.kind.Name+".log"))
	if err != nil {
		return err
	}
	cluster := configs.DefaultCluster()
	cluster.Name, cluster.Address, cluster.AllowNeverIdle = d.kind.Name, d.engine.address, true
	cfg.Clusters = []configs.Cluster{cluster}
	d.story.step("%s serves at %s (log: %s)", d.kind.Title, d.engine.address, d.engine.Log)
	return nil
}

func (d *development) stopEngine() {
	d.engine.end()
	d.story.step("%s stopped", d.kind.Title)
}

// serve runs the gateway, uses it, and stays until ctx ends or a part of it does.
func (d *development) serve(ctx context.Context, cfg *configs.Config, cut <-chan struct{}) error {
	file, err := os.OpenFile(d.dir.path("sconce.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	ready := make(chan struct{})
	g := &gateway{
		cfg: cfg, log: newLogger(cfg.Log, zap.NewAtomicLevel(), file), now: d.app.now, cut: cut,
		ready: func() { close(ready) },
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ready:
	}
	d.story.step("Sconce serves at %s (log: %s)", d.endpoint, file.Name())
	defer d.forget()
	if err := d.use(ctx, cfg); err != nil && ctx.Err() == nil {
		// Not left to the select: by then the gateway may have ended, and well.
		stop(err)
		d.story.begin("stopping ...")
		return errors.Join(err, <-ended)
	}
	select {
	case <-ctx.Done():
		d.story.begin("stopping ...")
		err = errors.Join(context.Cause(ctx), <-ended)
	case err = <-ended:
	case <-d.engine.Done():
		stop(nil)
		err = errors.Join(d.engine.Failure(d.kind.Title), <-ended)
	}
	return err
}

// use does what a user would: a session, a token, a query.
func (d *development) use(ctx context.Context, cfg *configs.Config) error {
	if err := d.signIn(cfg); err != nil {
		return err
	}
	c, err := d.openSession(ctx)
	if err != nil {
		return err
	}
	d.story.step("session %s, named %s", c.session, devSession)
	if !d.flags.noQuery {
		if err := d.query(ctx, c); err != nil {
			return err
		}
		d.story.step("the query above went through %s", d.endpoint)
	}
	fmt.Fprintln(d.app.stdout)
	c.print(d.app.stdout, d.app.now())
	fmt.Fprintf(d.app.stdout, "\nsconce session and sconce token work here too, in this folder. Ctrl-C ends all of it.\n")
	return nil
}

// signIn leaves a control token and the endpoint where the client commands find them.
func (d *development) signIn(cfg *configs.Config) error {
	key, err := auth.LoadSigningKey(cfg.Auth.SigningKey)
	if err != nil {
		return err
	}
	issuer, err := newIssuer(cfg, key, d.app.now)
	if err != nil {
		return err
	}
	token, _, err := issuer.Issue(auth.Grant{Kind: auth.KindControl, Subject: devSubject, Org: devOrg, Admin: true, Lifetime: devLifetime})
	if err != nil {
		return err
	}
	if err := d.dir.write(stateControl, []byte(token)); err != nil {
		return err
	}
	return d.dir.write(stateEndpoint, []byte(d.endpoint))
}

// forget removes what signIn left.
func (d *development) forget() {
	for _, name := range []string{stateControl, stateEndpoint, stateRedis} {
		os.Remove(d.dir.path(name))
	}
}

// openSession creates the session and its token through the port.
func (d *development) openSession(ctx context.Context) (connection, error) {
	var made connection
	c := &client{app: d.app, endpoint: d.endpoint, tokenFile: d.dir.path(stateControl), ca: d.trust(), timeout: time.Minute}
	return made, c.call(ctx, func(ctx context.Context, svc sconcev1.SessionServiceClient) error {
		s, err := svc.CreateSession(ctx, &sconcev1.CreateSessionRequest{Name: devSession, Cluster: d.kind.Name})
		if err != nil {
			return err
		}
		t, err := svc.IssueSessionToken(ctx, &sconcev1.IssueSessionTokenRequest{SessionId: s.GetSession().GetId()})
		if err != nil {
			return err
		}
		made = connection{
			endpoint: d.endpoint, token: t.GetToken(), session: s.GetSession().GetId(),
			ca: d.dir.path(stateCA), expires: t.GetExpireTime().AsTime(),
		}
		return nil
	})
}

// trust is the CA to believe, where TLS is spoken at all.
func (d *development) trust() string {
	if strings.HasPrefix(d.endpoint, "localhost:") {
		return ""
	}
	return d.dir.path(stateCA)
}

//go:embed devquery.py
var devQuery string

// query runs PySpark as a user would, and lets it print.
func (d *development) query(ctx context.Context, c connection) error {
	d.story.begin("one query, by PySpark, through the port:")
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.python, "-c", devQuery)
	cmd.Env = append(os.Environ(), "SPARK_REMOTE="+c.remote(), "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH="+c.ca, "PYTHONWARNINGS=ignore")
	cmd.SysProcAttr = launch.OwnGroup()
	runtime.LockOSThread() // the query ends with this thread; see launch.Program
	defer runtime.UnlockOSThread()
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = indent(d.app.stdout), &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("the query failed: %w\n%s", err, said.String())
	}
	return nil
}
