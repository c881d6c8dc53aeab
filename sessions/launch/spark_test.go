package launch

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSparkIsTold(t *testing.T) {
	e := Engine{
		Preset: "spark", Python: "/venv/bin/python", Memory: 3 << 30, Cores: 4,
		Spark: Spark{
			Master: "yarn", ExecutorMemory: 512 << 20, ExecutorCores: 2, Executors: 3, Dynamic: true, Fewest: 1, Most: 9,
			Conf: []string{"spark.hadoop.secret=a\\b", "spark.ui.enabled=true"},
		},
	}
	argv, env, err := e.Argv(Start{Name: "n", Dir: "/d", Token: "t0ken", KeepFor: 90 * time.Minute, Environ: []string{"SPARK_HOME=/other", "A=b"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"spark.driver.memory=3072m", "spark.driver.cores=4", "spark.master=yarn", "spark.executor.memory=512m", "spark.executor.cores=2",
		"spark.executor.instances=3", "spark.dynamicAllocation.enabled=true", "spark.dynamicAllocation.minExecutors=1",
		"spark.dynamicAllocation.maxExecutors=9", "spark.dynamicAllocation.shuffleTracking.enabled=true",
		"spark.connect.session.manager.defaultSessionTimeout=5400s", "spark.connect.grpc.binding.address=127.0.0.1",
		"spark.connect.grpc.binding.port=0", RetryBuffer, "spark.local.dir=/d/local", "spark.sql.warehouse.dir=/d/warehouse",
	} {
		if !slices.Contains(argv, want) {
			t.Errorf("not told %s", want)
		}
	}
	all := strings.Join(argv, " ")
	if strings.Contains(all, "t0ken") || strings.Contains(all, "secret") {
		t.Errorf("a secret is in the arguments: %s", all)
	}
	if strings.Contains(all, "spark.ui.enabled") {
		t.Error("the operator's own setting is overruled")
	}
	if !slices.Contains(env, "SPARK_CONNECT_AUTHENTICATE_TOKEN=t0ken") || !slices.Contains(env, "A=b") || slices.Contains(env, "SPARK_HOME=/other") {
		t.Errorf("the environment is %v", env)
	}
	if got, want := string(e.Spark.properties()), "spark.hadoop.secret=a\\\\b\nspark.ui.enabled=true\n"; got != want {
		t.Errorf("properties %q, want %q", got, want)
	}
}

func TestSailIsTold(t *testing.T) {
	e := Engine{Preset: "sail", Python: "/venv/bin/python", Memory: 1 << 20, Cores: 3}
	argv, env, err := e.Argv(Start{KeepFor: 1500 * time.Millisecond, Dir: "/d"})
	if err != nil || strings.Join(argv, " ") != "/venv/bin/sail spark server --ip 127.0.0.1 --port 0" {
		t.Errorf("got %v, %v", argv, err)
	}
	for _, want := range []string{
		"SAIL_SPARK__SESSION_TIMEOUT_SECS=2", "SAIL_RUNTIME__MEMORY_POOL__GREEDY__MAX_SIZE=1048576",
		"SAIL_EXECUTION__DEFAULT_PARALLELISM=3", `SAIL_RUNTIME__TEMPORARY_FILES__PATHS=["/d"]`,
	} {
		if !slices.Contains(env, want) {
			t.Errorf("not told %s: %v", want, env)
		}
	}
}

// The line of Spark 4.3 comes before that with the address of the server.
func TestSparkShowsItsPages(t *testing.T) {
	const log = "26/11/25 15:15:42 INFO Utils: Successfully started service 'SparkUI' on port 36595.\n" +
		"26/11/25 15:15:43 INFO Utils: Successfully started service 'other' on port 46353.\n"
	if m := spark().shows.FindStringSubmatch(log); m == nil || m[1] != "36595" {
		t.Errorf("found %q", m)
	}
}
