package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Spark is what only Apache Spark can be told.
type Spark struct {
	// Master is where executors run; "" = inside the driver, local[Cores].
	Master string
	// ExecutorMemory in bytes, ExecutorCores and Executors: 0 = Spark's default.
	ExecutorMemory           int64
	ExecutorCores, Executors int
	// Dynamic lets Spark add executors up to Most (0 = no limit), and give them
	// back down to Fewest.
	Dynamic      bool
	Fewest, Most int
	// Conf are further key=value. They stand in a file that nobody else can read.
	Conf []string
}

func spark() Preset {
	return Preset{
		Name: "spark", Title: "Apache Spark Connect", Setup: "setup-spark", distribution: "pyspark",
		StartTimeout: 3 * time.Minute, StopTimeout: 20 * time.Second, StopSignal: syscall.SIGTERM,
		check: checkSpark, command: sparkCommand, asks: true,
		says: regexp.MustCompile(`Spark Connect server started at: (127\.0\.0\.1:\d+)`),
		// Only where launch.conf has spark.ui.enabled=true.
		shows: regexp.MustCompile(`Successfully started service 'SparkUI' on port (\d+)`),
	}
}

func checkSpark(ctx context.Context, e Engine, environ []string) error {
	if _, err := os.Stat(beside(e.Python, "spark-submit")); err != nil {
		return fmt.Errorf("no Spark beside %s: run `make setup-spark`, or name a Python that has the whole package pyspark[connect] (--python, or launch.python)", e.Python)
	}
	out, err := exec.CommandContext(ctx, javaProgram(append(slices.Clone(environ), e.Env...)), "-version").CombinedOutput()
	if err != nil {
		return errors.New("Apache Spark needs Java 17 or newer, and there is no `java`: install it (Debian: apt-get install openjdk-17-jre-headless), or try Sail")
	}
	if v := javaVersion(string(out)); v < 17 {
		return fmt.Errorf("Apache Spark needs Java 17 or newer, and `java` is version %d: install it, set JAVA_HOME, or try Sail", v)
	}
	return nil
}

func javaProgram(environ []string) string {
	if home, _ := lookup(environ, "JAVA_HOME"); home != "" {
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

func sparkCommand(e Engine, s Start) (argv, env []string) {
	argv = append(argv, beside(e.Python, "spark-submit"), "--name", s.Name)
	if s.Dir != "" {
		argv = append(argv, "--properties-file", filepath.Join(s.Dir, sparkProperties))
	}
	for _, kv := range sparkConf(e, s) {
		argv = append(argv, "--conf", kv)
	}
	argv = append(argv, "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal")
	// A SPARK_HOME of another Spark would be taken for the one beside this Python.
	env = append(without(s.Environ, "SPARK_HOME"), "PYSPARK_PYTHON="+e.Python, "SPARK_LOCAL_IP=127.0.0.1")
	if s.Token != "" { // not as a --conf, which everybody could read
		env = append(env, "SPARK_CONNECT_AUTHENTICATE_TOKEN="+s.Token)
	}
	return argv, env
}

// sparkProperties is the file in the engine's folder that holds Spark.Conf.
const sparkProperties = "spark.properties"

// properties are Conf as Java reads it.
func (s Spark) properties() []byte {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`)
	for _, kv := range s.Conf {
		k, v, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&b, "%s=%s\n", escape.Replace(strings.TrimSpace(k)), escape.Replace(strings.TrimSpace(v)))
	}
	return []byte(b.String())
}

// RetryBuffer is how much of a result Spark can repeat to who reattaches after a
// connection broke. Its own default, 10m, is less than what may be on the way to a slow
// reader: the windows of its gRPC library (up to 8 MiB and what it has taken out of
// them), ours (1 MiB) and the message under way (4 MiB). It is kept for each result that
// is not read to its end, so it is no more than three times that of Spark.
const RetryBuffer = "spark.connect.execute.reattachable.observerRetryBufferSize=32m"

// sparkConf is what Sconce itself sets; it is stronger than Conf.
func sparkConf(e Engine, s Start) []string {
	conf := []string{
		"spark.connect.grpc.binding.address=127.0.0.1",
		"spark.connect.grpc.binding.port=" + strconv.Itoa(s.Port),
		"spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1",
	}
	add := func(when bool, key, value string) {
		if when && !e.Spark.sets(key) {
			conf = append(conf, key+"="+value)
		}
	}
	master := "local[*]"
	if e.Cores > 0 {
		master = fmt.Sprintf("local[%d]", e.Cores)
	}
	if e.Spark.Master != "" {
		master = e.Spark.Master
	}
	conf = append(conf, "spark.master="+master)
	add(true, "spark.ui.enabled", "false")
	retry, size, _ := strings.Cut(RetryBuffer, "=")
	add(true, retry, size)
	add(true, "spark.sql.catalogImplementation", "in-memory")
	add(e.Memory > 0, "spark.driver.memory", mebibytes(e.Memory))
	add(e.Cores > 0, "spark.driver.cores", strconv.Itoa(e.Cores))
	add(e.Spark.ExecutorMemory > 0, "spark.executor.memory", mebibytes(e.Spark.ExecutorMemory))
	add(e.Spark.ExecutorCores > 0, "spark.executor.cores", strconv.Itoa(e.Spark.ExecutorCores))
	add(e.Spark.Executors > 0, "spark.executor.instances", strconv.Itoa(e.Spark.Executors))
	add(e.Spark.Dynamic, "spark.dynamicAllocation.enabled", "true")
	add(e.Spark.Dynamic, "spark.dynamicAllocation.shuffleTracking.enabled", "true")
	add(e.Spark.Dynamic, "spark.dynamicAllocation.minExecutors", strconv.Itoa(e.Spark.Fewest))
	add(e.Spark.Dynamic && e.Spark.Most > 0, "spark.dynamicAllocation.maxExecutors", strconv.Itoa(e.Spark.Most))
	add(s.KeepFor > 0, "spark.connect.session.manager.defaultSessionTimeout", seconds(s.KeepFor)+"s")
	if s.Dir != "" {
		add(true, "spark.local.dir", filepath.Join(s.Dir, "local"))
		add(true, "spark.sql.warehouse.dir", filepath.Join(s.Dir, "warehouse"))
	}
	return conf
}

// sets says whether Conf has the key: then the operator's word counts.
func (s Spark) sets(key string) bool {
	_, ok := lookup(s.Conf, key)
	return ok
}

func mebibytes(n int64) string { return strconv.FormatInt(max(1, n>>20), 10) + "m" }

func without(environ []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}
