package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// where is what an engine calls its first catalog.
var where = map[string]string{"sail": "sail", "spark": "spark_catalog"}

// TestSetup: a session that chose a catalog, a database and configuration. Every
// Spark session of it begins there, also when its first requests come at once by
// two replicas, and stays where its client goes then.
func TestSetup(t *testing.T) {
	w := needs(t)
	r := w.gate.replica(t)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			var made struct{ ID string }
			w.gate.do(t, "ada", &made, "session", "create", "--cluster", e.cluster, "--catalog", where[e.cluster], "--database", "default",
				"--conf", "spark.sql.shuffle.partitions=7", "--conf", "spark.sql.session.timeZone=Asia/Tokyo", "--ca", w.gate.ca, "--tls")
			s := &session{gate: w.gate, ID: made.ID, Owner: "ada"}
			s.Token = s.issue(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for range 3 {
				spark := newUUID()
				first := make(chan string, 4)
				for i := range cap(first) {
					c := s.through([]*gateway{w.gate, r}[i%2]).caller(t)
					go func() { first <- got(ctx, c, spark) }()
				}
				for range cap(first) {
					if text := <-first; !strings.Contains(text, "Asia/Tokyo") {
						t.Errorf("a first request was not told of its zone: %q", text)
					}
				}
				if _, err := s.caller(t).call(ctx, "Config", request(spark, "ada").set("spark.sql.session.timeZone", "Europe/Rome")); err != nil {
					t.Fatal(err)
				}
				if text := got(ctx, s.through(r).caller(t), spark); !strings.Contains(text, "Europe/Rome") {
					t.Errorf("what the client set does not stand: %q", text)
				}
			}
			s.close(t)
		})
	}
}

// set and get are the operation field of a ConfigRequest.
func (w wire) set(key, value string) wire {
	return w.message(3, wire(nil).message(1, wire(nil).message(1, wire(nil).text(1, key).text(2, value))))
}

func (w wire) get(key string) wire { return w.message(3, wire(nil).message(2, wire(nil).text(1, key))) }

// got is the answer that holds the time zone of a Spark session, or the error.
func got(ctx context.Context, c *caller, spark string) string {
	answer, err := c.call(ctx, "Config", request(spark, "ada").get("spark.sql.session.timeZone"))
	if err != nil {
		return err.Error()
	}
	return string(answer)
}

// TestSetupRefused: what the engine does not know makes no session, and says so. Its name
// is free, and why it was closed can be read for an hour.
func TestSetupRefused(t *testing.T) {
	w := needs(t)
	for _, tc := range []struct {
		name   string
		engine *engine
		flags  []string
		want   string
	}{
		{"Sail/catalog", w.sail, []string{"--catalog", "nope"}, `does not take catalog "nope" (`},
		{"Sail/database", w.sail, []string{"--database", "nope"}, `does not take database "nope" (`},
		{"Spark/catalog", w.spark, []string{"--catalog", "nope"}, "[CATALOG_NOT_FOUND] The catalog 'nope' not found"},
		{"Spark/database", w.spark, []string{"--database", "nope-1"}, "[SCHEMA_NOT_FOUND] The schema 'spark_catalog'.'nope-1'"},
		{"Spark/conf", w.spark, []string{"--conf", "spark.sql.shuffle.partitions=x"}, `conf "spark.sql.shuffle.partitions"`},
		{"Spark/static conf", w.spark, []string{"--conf", "spark.sql.warehouse.dir=/x"}, "CANNOT_MODIFY_STATIC_CONFIG"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			token, err := w.gate.as("bea")
			if err != nil {
				t.Fatal(err)
			}
			name := strings.NewReplacer("/", "-", " ", "-").Replace(tc.name)
			_, err = w.gate.run(token, append([]string{"session", "create", "--name", name, "--cluster", tc.engine.cluster, "--ca", w.gate.ca, "--tls"}, tc.flags...)...)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "so no session was made: ") {
				t.Errorf("got %v", err)
			}
			var closed []struct{ Name, State, Reason string }
			w.gate.do(t, "bea", &closed, "session", "list", "--closed", "--ca", w.gate.ca, "--tls")
			found := 0
			for _, s := range closed {
				if s.Name == name && s.State == "closed" && strings.Contains(s.Reason, "cannot be used: ") {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%d of that name in %+v", found, closed)
			}
			w.gate.do(t, "bea", nil, "session", "create", "--name", name, "--cluster", tc.engine.cluster, "--ca", w.gate.ca, "--tls")
			w.gate.do(t, "bea", nil, "session", "close", name, "--ca", w.gate.ca, "--tls")
		})
	}
}

// TestSetupGone: a database is dropped after the session was made. The first
// request of a new Spark session says so, a Spark session that stands goes on.
func TestSetupGone(t *testing.T) {
	w := needs(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	admin := &caller{conn: dialEngine(t, w.spark), secret: w.spark.secret}
	run := func(sql string) {
		t.Helper()
		if _, err := admin.call(ctx, "ExecutePlan", request(newUUID(), "root").command(sql)); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE DATABASE passing")
	var made struct{ ID string }
	w.gate.do(t, "cyd", &made, "session", "create", "--cluster", w.spark.cluster, "--database", "passing", "--ca", w.gate.ca, "--tls")
	s := &session{gate: w.gate, ID: made.ID, Owner: "cyd"}
	s.Token = s.issue(t)
	before := newUUID()
	if _, err := s.caller(t).call(ctx, "ExecutePlan", request(before, "cyd").query("SELECT current_database()")); err != nil {
		t.Fatal(err)
	}
	run("DROP DATABASE passing")
	_, err := s.caller(t).call(ctx, "ExecutePlan", request(newUUID(), "cyd").query("SELECT 1"))
	refusal(t, err, codes.FailedPrecondition, "SESSION_SETUP", `does not take database "passing" of session `+s.ID)
	if _, err := s.caller(t).call(ctx, "ExecutePlan", request(before, "cyd").query("SELECT 1")); err != nil {
		t.Errorf("the Spark session that stood: %v", err)
	}
	s.close(t)
}

// TestSetupByPySpark: the client sees what was chosen.
func TestSetupByPySpark(t *testing.T) {
	w := needs(t)
	var made struct{ ID string }
	w.gate.do(t, "dee", &made, "session", "create", "--cluster", w.spark.cluster, "--catalog", "spark_catalog", "--database", "default",
		"--conf", "spark.sql.session.timeZone=Asia/Tokyo", "--ca", w.gate.ca, "--tls")
	s := &session{gate: w.gate, ID: made.ID, Owner: "dee"}
	s.Token = s.issue(t)
	p := python{name: "PySpark 4.0", venv: "py40"}
	lines := p.run(t, w, job{URL: s.url("localhost"), Cases: []string{"setup"}}, time.Minute)
	var seen struct{ Catalog, Database, Zone string }
	if err := json.Unmarshal(lines["setup"].Result, &seen); err != nil {
		t.Fatalf("%s: %v", lines["setup"].failed(), err)
	}
	if seen.Catalog != "spark_catalog" || seen.Database != "default" || seen.Zone != "Asia/Tokyo" {
		t.Errorf("PySpark sees %+v", seen)
	}
	s.close(t)
}
