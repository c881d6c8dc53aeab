package e2e

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// outageGrace is far shorter than the outage: what is known goes on, and then waits.
const outageGrace = 3 * time.Second

// outage is how long Redis is away: SCONCE_E2E_OUTAGE, or 20 s.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SCONCE_E2E_OUTAGE")
	if text == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// apart starts a gateway with these lines in place of the world's: another registry,
// in which the world's sessions are not.
func (g *gateway) apart(t *testing.T, front string) *gateway {
	t.Helper()
	return (&gateway{dir: g.dir, binary: g.binary, ca: g.ca, front: front}).replica(t)
}

// TestOutage kills Redis for longer than sessions go on without it, while PySpark runs
// queries and downloads. It costs them time and nothing else.
func TestOutage(t *testing.T) {
	w := needs(t)
	dir := t.TempDir()
	redis, address, err := startRedis(dir, w.cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { redis.end(10 * time.Second) })
	g := w.gate.apart(t, front(address, w.sail, w.spark)+"registry_grace: "+outageGrace.String()+"\n")
	var clients sync.WaitGroup
	folder := t.TempDir()
	for _, c := range []struct {
		name   string
		engine *engine
		python python
	}{{"Sail/4.0", w.sail, py40}, {"Sail/newest", w.sail, newest}, {"Spark/newest", w.spark, newest}} {
		s := g.open(t, "ada", c.engine.cluster)
		clients.Go(func() {
			order := job{URL: s.url("127.0.0.1"), Cases: []string{"without_pause"}, Scratch: folder, Rows: 20_000}
			got := c.python.run(t, w, order, 6*time.Minute)["without_pause"]
			if problem := got.failed(); problem != "" {
				t.Errorf("%s: %s", c.name, problem)
			}
			t.Logf("%s: %s", c.name, got.Result)
		})
	}
	t.Cleanup(clients.Wait)
	t.Cleanup(func() { _ = os.WriteFile(filepath.Join(folder, "stop"), nil, 0o600) })
	all := func(when string) {
		t.Helper()
		within(t, 3*time.Minute, "all clients had answers of each kind "+when, func() bool {
			found, err := filepath.Glob(filepath.Join(folder, "begun-*"))
			return err == nil && len(found) == 3
		})
	}
	all("before it")

	killGroup(redis.cmd.Process.Pid)
	<-redis.done
	gone := time.Now()
	within(t, time.Minute, "people wait for Redis", func() bool { return g.metric(t, "sconce_streams_held") > 0 })
	within(t, outage(t)+10*time.Second, "it lasts", func() bool { return time.Since(gone) > outage(t) })
	if answers(g.admin+"/readyz")() == nil {
		t.Error("the gateway calls itself ready")
	}
	found, err := filepath.Glob(filepath.Join(folder, "begun-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := strings.Cut(address, ":")
	again, err := startRedisAt(dir, w.cache, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.end(10 * time.Second) })
	all("after it")
	if n := g.metric(t, `sconce_streams_refused_total{reason="REGISTRY_UNAVAILABLE"}`); n == 0 {
		t.Error("nobody was told to come again")
	}
	if err := os.WriteFile(filepath.Join(folder, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	clients.Wait()
}

// metric adds up the series whose names begin so.
func (g *gateway) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	reply, err := (&http.Client{Timeout: 5 * time.Second}).Get(g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	page, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`.* (\S+)$`).FindAllStringSubmatch(string(page), -1) {
		value, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += value
	}
	return sum
}
