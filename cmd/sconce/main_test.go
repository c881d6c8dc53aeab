package main

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/cmd/sconce/scripttest"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// TestMain makes the test binary stand for the programs in the scripts: sconce itself,
// and those of programs_test.go.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == keepEngine {
		main() // a gateway in one of the tests starts an engine
		return
	}
	testscript.Main(leakless{m}, map[string]func(){
		"sconce": main, "sail": fakeSail, "python": fakePython, "engine": fakeEngine, "tables": fakeClient,
	})
}

// leakless runs the tests and then looks for goroutines that were left.
type leakless struct{ m *testing.M }

func (l leakless) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestScripts runs the stories in testdata/script. They share a real Redis,
// $REDIS, and a fake Spark Connect server, $SPARK.
func TestScripts(t *testing.T) {
	redis := storetest.StartRedis(t)
	spark := newSpark(t)
	issuers := &scriptIssuers{t: t, known: map[string]*proxytest.OIDC{}}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Condition: func(is string) (bool, error) {
			if is != "pyspark" {
				return false, fmt.Errorf("no such condition: %s", is)
			}
			return false, nil // TestStory of e2e has one
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("REDIS", redis.Addr)
			env.Setenv("SPARK", spark.Addr())
			// Of seed.txtar: engines, which serve once there is a file gate.
			env.Setenv("LAUNCH", fmt.Sprintf(`{command: [/bin/sh, -c, 'until [ -e %s/gate ]; do sleep 0.05; done; exec $(command -v engine) "$0"', '{port}']}`, env.WorkDir))
			env.Setenv("VERSION", "4.3.0-lake")
			// Both are far longer than the commands and the launch that come within them.
			env.Setenv("IDLE", "8s")
			env.Setenv("AGE", "10s")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // a command of the race detector's rests for 1 s at its end
			// No script is about how long Redis may take, where much else is done beside it.
			env.Setenv("SCONCE_REDIS_TIMEOUT", "2s")
			env.Setenv("SCONCE_REDIS_DIAL_TIMEOUT", "2s")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"issuer": issuers.start, "issuer-down": issuers.down, "oidc-token": issuers.token,
			"ports": scripttest.Ports, "ready": scripttest.Ready, "get": scripttest.Get, "keep": scripttest.Keep,
			"taken": scriptTaken, "authority": scriptAuthority,
			"redis-tls": func(ts *testscript.TestScript, _ bool, args []string) { scriptRedisTLS(t, ts, args) },
		},
	})
}

// newSpark is a Spark that, like the real one, has no grpc.health.v1.
func newSpark(t *testing.T) *proxytest.Spark {
	t.Helper()
	spark := proxytest.StartSpark(t, proxytest.SparkConfig{})
	spark.Script("Check", proxytest.Fail(status.New(codes.Unimplemented, "no such service")))
	return spark
}

// scriptTaken sets variables to addresses on which somebody listens: taken A.
func scriptTaken(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Defer(func() { ln.Close() })
		ts.Setenv(name, ln.Addr().String())
	}
}

// scriptAuthority fills a folder as sconce dev would: authority DIR.
func scriptAuthority(ts *testscript.TestScript, _ bool, args []string) {
	dir := stateDir(ts.MkAbs(args[0]))
	ts.Check(dir.make())
	a, err := openAuthority(dir, time.Now)
	ts.Check(err)
	ts.Check(a.leaf([]string{"localhost", "127.0.0.1"}))
}

// scriptRedisTLS starts a Redis that speaks TLS on $REDIS_TLS, with the certificate of a
// folder, and wants the password s3cret: redis-tls DIR.
func scriptRedisTLS(t *testing.T, ts *testscript.TestScript, args []string) {
	dir, port := stateDir(ts.MkAbs(args[0])), storetest.FreePort(t)
	storetest.StartRedis(t, "--tls-port", port, "--tls-auth-clients", "no", "--requirepass", "s3cret",
		"--tls-cert-file", dir.path(stateCert), "--tls-key-file", dir.path(stateKey), "--tls-ca-cert-file", dir.path(stateCA))
	ts.Setenv("REDIS_TLS", net.JoinHostPort("127.0.0.1", port))
}

// patience is how long a test waits for what should take milliseconds.
const patience = 30 * time.Second
