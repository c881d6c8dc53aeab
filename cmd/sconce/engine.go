package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// engineKind is a Spark Connect server that `sconce dev` can start.
type engineKind struct {
	name  string // as --cluster takes it
	title string // as people call it
	setup string // the make target that prepares its Python
	// check says what is missing before it can start.
	check func(ctx context.Context, python string) error
	// command starts it on a loopback port.
	command func(python string, port int) *exec.Cmd
	// start is how long it may take until then, stop how long after it was asked to end.
	start, stop time.Duration
	ask         syscall.Signal
}

func engineKinds() []engineKind {
	return []engineKind{{
		name: "sail", title: "Sail", setup: "setup-sail",
		check: checkSail, command: sailCommand,
		start: time.Minute, stop: 5 * time.Second, ask: syscall.SIGINT,
	}, {
		name: "spark", title: "Apache Spark Connect", setup: "setup-spark",
		check: checkSpark, command: sparkCommand,
		start: 3 * time.Minute, stop: 10 * time.Second, ask: syscall.SIGTERM,
	}}
}

func findEngine(name string) (engineKind, error) {
	var names []string
	for _, k := range engineKinds() {
		if k.name == name {
			return k, nil
		}
		names = append(names, k.name)
	}
	return engineKind{}, usageError{fmt.Errorf("--cluster %q: write one of %s", name, strings.Join(names, ", "))}
}

// beside is a program in the same folder as python: of the same environment.
func beside(python, program string) string { return filepath.Join(filepath.Dir(python), program) }

func checkSail(_ context.Context, python string) error {
	if _, err := os.Stat(beside(python, "sail")); err != nil {
		return fmt.Errorf("no Sail beside %s: run `make setup-sail`, or name a Python that has the package pysail with --python", python)
	}
	return nil
}

func sailCommand(python string, port int) *exec.Cmd {
	cmd := exec.Command(beside(python, "sail"), "spark", "server", "--ip", "127.0.0.1", "--port", strconv.Itoa(port))
	cmd.Env = append(os.Environ(), "PYTHONUNBUFFERED=1")
	return cmd
}

func checkSpark(ctx context.Context, python string) error {
	if _, err := os.Stat(beside(python, "spark-submit")); err != nil {
		return fmt.Errorf("no Spark beside %s: run `make setup-spark`, or name a Python that has the whole package pyspark[connect] with --python", python)
	}
	out, err := exec.CommandContext(ctx, javaProgram(), "-version").CombinedOutput()
	if err != nil {
		return errors.New("Apache Spark needs Java 17 or newer, and there is no `java`: install it (Debian: apt-get install openjdk-17-jre-headless), or try --cluster sail")
	}
	if v := javaVersion(string(out)); v < 17 {
		return fmt.Errorf("Apache Spark needs Java 17 or newer, and `java` is version %d: install it, set JAVA_HOME, or try --cluster sail", v)
	}
	return nil
}

func javaProgram() string {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		return filepath.Join(home, "bin", "java")
	}
	return "java"
}

var javaVersionText = regexp.MustCompile(`version "(\d+)`)

// javaVersion reads the major version from `java -version`; 0 = not to be read.
// Java 8 and before say 1.8, which is old enough at 1.
func javaVersion(text string) int {
	m := javaVersionText.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func sparkCommand(python string, port int) *exec.Cmd {
	cmd := exec.Command(beside(python, "spark-submit"),
		"--master", "local[2]", "--name", "sconce dev", "--driver-memory", "1g",
		"--conf", "spark.connect.grpc.binding.address=127.0.0.1",
		"--conf", "spark.connect.grpc.binding.port="+strconv.Itoa(port),
		"--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1",
		"--conf", "spark.ui.enabled=false", "--conf", "spark.sql.catalogImplementation=in-memory",
		"--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal")
	// A SPARK_HOME of another Spark would be taken for the one beside this Python.
	cmd.Env = append(without(os.Environ(), "SPARK_HOME"), "PYSPARK_PYTHON="+python, "SPARK_LOCAL_IP=127.0.0.1")
	return cmd
}

func without(environ []string, name string) []string {
	return slices.DeleteFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

// engine is one that runs.
type engine struct {
	kind    engineKind
	address string
	*process
}

// startEngine starts a server and waits until it serves. A port of 0 means any
// that is free.
func startEngine(ctx context.Context, kind engineKind, python string, port int, log string) (*engine, error) {
	if err := kind.check(ctx, python); err != nil {
		return nil, err
	}
	port, err := loopbackPort(port)
	if err != nil {
		return nil, err
	}
	p, err := startProcess(kind.command(python, port), log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", kind.title, err)
	}
	e := &engine{kind: kind, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), process: p}
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
	limit := time.NewTimer(e.kind.start)
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
		case <-e.done:
			return e.failure(e.kind.title)
		case <-limit.C:
			return fmt.Errorf("%s does not answer after %s: %w: the end of %s:\n%s", e.kind.title, e.kind.start, err, e.log, e.tail(12))
		case <-tick.C:
		}
	}
}

// probe asks once whether the server serves.
func (e *engine) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return sessions.EngineClient{}.Probe(ctx, &sessions.Cluster{Name: e.kind.name, Address: e.address})
}

// end stops the server; when it returns, nothing of it runs.
func (e *engine) end() { e.stop(e.kind.ask, e.kind.stop) }
