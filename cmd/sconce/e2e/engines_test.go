package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// engineSecret is the pre-shared token of the Spark server: a client gets in
// only if Sconce sets it.
const engineSecret = "e2e-cluster-secret"

// engine is one real Spark Connect server.
type engine struct {
	name    string // as in the names of the subtests
	cluster string // as in Sconce's configuration
	address string
	secret  string // its pre-shared token; "" = none
	link    *link  // the way to it that can be cut
	child   *child
}

// cutCluster is the name of the same engine behind its link.
func (e *engine) cutCluster() string { return e.cluster + "-link" }

// url is the connection string of a client that goes straight to the engine, at
// this address. Every client sends unknown parameters as metadata, so this sets
// the engine's token without token=, which would mean TLS.
func (e *engine) url(address, user string) string {
	url := "sc://" + address + "/;user_id=" + user
	if e.secret != "" {
		url += ";authorization=Bearer%20" + e.secret
	}
	return url
}

func startRedis(dir, cache string) (*child, string, error) {
	port, err := storetest.FindPort()
	if err != nil {
		return nil, "", err
	}
	c, err := startRedisAt(dir, cache, strconv.Itoa(port))
	return c, "127.0.0.1:" + strconv.Itoa(port), err
}

// startRedisAt starts one on that port; it has what the last one in dir had.
func startRedisAt(dir, cache, port string) (*child, error) {
	binary, err := findProgram("redis-server", cache)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "--bind", "127.0.0.1", "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--daemonize", "no")
	c, err := startChild(dir, "redis", syscall.SIGTERM, cmd)
	if err != nil {
		return nil, err
	}
	return c, c.ready(20*time.Second, dialable("127.0.0.1:"+port))
}

// findProgram finds what setup.sh has installed or unpacked.
func findProgram(name, cache string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := filepath.Join(cache, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is neither on PATH nor in %s: run cmd/sconce/e2e/setup.sh", name, filepath.Dir(path))
	}
	return path, nil
}

func startSail(dir, cache string) (*engine, error) {
	port, err := storetest.FindPort()
	if err != nil {
		return nil, err
	}
	e := &engine{name: "Sail", cluster: "sail", address: "127.0.0.1:" + strconv.Itoa(port)}
	cmd := exec.Command(filepath.Join(cache, "venv", "sail", "bin", "sail"),
		"spark", "server", "--ip", "127.0.0.1", "--port", strconv.Itoa(port))
	if e.child, err = startChild(dir, "sail", syscall.SIGINT, cmd); err != nil {
		return nil, err
	}
	return e, e.up(60 * time.Second)
}

// startSpark starts Apache Spark's own server, out of the jars that the pip
// package brings, with these settings more.
func startSpark(dir, cache string, more ...string) (*engine, error) {
	port, err := storetest.FindPort()
	if err != nil {
		return nil, err
	}
	e := &engine{name: "Spark", cluster: "spark", address: "127.0.0.1:" + strconv.Itoa(port), secret: engineSecret}
	venv := filepath.Join(cache, "venv", "spark")
	homes, err := filepath.Glob(filepath.Join(venv, "lib", "python3*", "site-packages", "pyspark"))
	if err != nil || len(homes) != 1 {
		return nil, fmt.Errorf("no PySpark in %s: run cmd/sconce/e2e/setup.sh", venv)
	}
	args := []string{"--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
		"--name", "sconce-e2e", "--master", "local[2]", "--driver-memory", "3g"}
	for _, setting := range append([]string{
		"spark.ui.enabled=false",
		// In its configuration, besides the environment: see TestConfigKeepsTheToken.
		authenticateToken + "=" + engineSecret,
		// Spark keeps the texts of plans that have run, and ours are of 64 MiB.
		"spark.sql.maxPlanStringLength=10000",
		"spark.sql.ui.retainedExecutions=1",
		"spark.driver.host=127.0.0.1",
		"spark.driver.bindAddress=127.0.0.1",
		"spark.connect.grpc.binding.address=127.0.0.1",
		"spark.connect.grpc.binding.port=" + strconv.Itoa(port),
		"spark.local.dir=" + filepath.Join(dir, "spark-local"),
		"spark.sql.warehouse.dir=" + filepath.Join(dir, "spark-warehouse"),
	}, more...) {
		args = append(args, "--conf", setting)
	}
	cmd := exec.Command(filepath.Join(homes[0], "bin", "spark-submit"), args...)
	cmd.Env = append(os.Environ(),
		"SPARK_HOME="+homes[0],
		"SPARK_LOCAL_IP=127.0.0.1",
		"PYSPARK_PYTHON="+filepath.Join(venv, "bin", "python"),
		"SPARK_CONNECT_AUTHENTICATE_TOKEN="+engineSecret)
	if e.child, err = startChild(dir, "spark", syscall.SIGTERM, cmd); err != nil {
		return nil, err
	}
	return e, e.up(180 * time.Second)
}

// up waits until the engine answers, and lays the link to it.
func (e *engine) up(limit time.Duration) error {
	conn, err := grpc.NewClient(e.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	caller := &caller{conn: conn, secret: e.secret}
	err = e.child.ready(limit, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := caller.call(ctx, "AnalyzePlan", request(newUUID(), "probe").message(10, nil))
		return err
	})
	if err != nil {
		return err
	}
	e.link, err = newLink(e.address)
	return err
}
