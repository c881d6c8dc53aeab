package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
		Setup: func(env *testscript.Env) error {
			env.Setenv("REDIS", redis.Addr)
			env.Setenv("SPARK", spark.Addr())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"issuer": issuers.start, "issuer-down": issuers.down, "oidc-token": issuers.token,
			"ports": scriptPorts, "ready": scriptReady, "get": scriptGet, "taken": scriptTaken, "authority": scriptAuthority, "keep": scriptKeep,
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

// scriptPorts sets variables to addresses on loopback that are free: ports A B.
func scriptPorts(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer ln.Close()
		ts.Setenv(name, ln.Addr().String())
	}
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

// scriptKeep sets a variable to what a regular expression finds in the last standard
// output: its first group. keep VAR EXPR.
func scriptKeep(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("nothing like %s", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// scriptRedisTLS starts a Redis that speaks TLS on $REDIS_TLS, with the certificate of a
// folder, and wants the password s3cret: redis-tls DIR.
func scriptRedisTLS(t *testing.T, ts *testscript.TestScript, args []string) {
	dir, port := stateDir(ts.MkAbs(args[0])), storetest.FreePort(t)
	storetest.StartRedis(t, "--tls-port", port, "--tls-auth-clients", "no", "--requirepass", "s3cret",
		"--tls-cert-file", dir.path(stateCert), "--tls-key-file", dir.path(stateKey), "--tls-ca-cert-file", dir.path(stateCA))
	ts.Setenv("REDIS_TLS", net.JoinHostPort("127.0.0.1", port))
}

// patience is how long a script waits for what should take milliseconds.
const patience = 30 * time.Second

// scriptReady waits until a gateway is ready, or, negated, until it answers
// that it is not: ready $ADDR.
func scriptReady(ts *testscript.TestScript, neg bool, args []string) {
	want := map[bool]int{false: http.StatusOK, true: http.StatusServiceUnavailable}[neg]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		code, body, err := httpGet(ctx, "http://"+args[0]+"/readyz")
		if err == nil && code == want && !strings.Contains(body, "starting") {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s: %d %s %v", args[0], code, body, err)
		case <-tick.C:
		}
	}
}

// scriptGet prints what a URL answers, which must be the status: get 200 URL.
func scriptGet(ts *testscript.TestScript, _ bool, args []string) {
	code, body, err := httpGet(context.Background(), args[1])
	// A third argument is what the page says in the end.
	for tries := 0; len(args) > 2 && err == nil && !strings.Contains(body, args[2]) && tries < 100; tries++ {
		time.Sleep(100 * time.Millisecond)
		code, body, err = httpGet(context.Background(), args[1])
	}
	ts.Check(err)
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s: %d %s", args[1], code, body)
	}
	_, err = io.WriteString(ts.Stdout(), body)
	ts.Check(err)
}

func httpGet(ctx context.Context, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
