package e2e

import (
	"slices"
	"testing"
	"time"
)

// The PySpark clients, old to new.
var (
	py34   = python{name: "PySpark 3.4", venv: "py34", tlsOnly: true}
	py35   = python{name: "PySpark 3.5", venv: "py35", tlsOnly: true}
	py40   = python{name: "PySpark 4.0", venv: "py40"}
	py41   = python{name: "PySpark 4.1", venv: "sail"}
	newest = python{name: "PySpark 4.3", venv: "spark"}
)

// everyCase is the list of py/cases.py in the order they run: stop is the last,
// for it ends the session.
var everyCase = []string{
	"version", "sql", "schema", "conf", "dataframe", "upload", "to_pandas", "to_arrow", "plan", "packed_plan",
	"udf", "artifacts", "interrupt", "error_analysis", "error_parse", "error_runtime", "error_long",
	"isolation", "clone", "parallel", "crowd", "big_row", "streaming", "stop",
}

// lacking are the cases that a client does not have at all.
var lacking = map[string][]string{
	py35.name: {"to_arrow", "clone"},
	py40.name: {"clone"},
}

// refused are the cases that an engine can't do, by engine and client ("" = all
// clients). They must fail alike directly and through Sconce.
var refused = map[string]map[string][]string{
	"Sail": {
		"":          {"artifacts", "clone", "streaming"},
		newest.name: {"upload"}, // PySpark 4.2 and later read a setting that Sail gives as "3GB"
	},
}

const clientLimit = 8 * time.Minute // one client process with all its cases

// TestClients runs every case with every PySpark on both engines: directly, over
// TLS with a private authority, and over plaintext on localhost.
func TestClients(t *testing.T) {
	w := needs(t)
	t.Parallel() // with TestQuiet, after the tests that stop or close something
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // the clients of one engine go one after the other
			clients := []python{py35, py40, newest}
			if e == w.sail {
				clients = append(clients, py41) // what `make run` uses with it
			}
			for _, p := range clients {
				t.Run(p.name, func(t *testing.T) { testClient(t, w, e, p) })
			}
		})
	}
}

func testClient(t *testing.T, w *world, e *engine, p python) {
	cases := slices.DeleteFunc(slices.Clone(everyCase), func(name string) bool {
		return slices.Contains(lacking[p.name], name)
	})
	direct := p.run(t, w, job{
		URL: e.url(e.address, "ada"), Other: e.url(e.address, "ada"), Cases: cases,
	}, clientLimit)
	t.Run("direct", func(t *testing.T) { judge(t, e, p, cases, direct) })
	ways := map[string]string{"TLS": "127.0.0.1"}
	if p.tlsOnly {
		ways["TLS by name"] = "localhost"
	} else {
		ways["plaintext"] = "localhost"
	}
	for _, way := range []string{"TLS", "TLS by name", "plaintext"} {
		host, ok := ways[way]
		if !ok {
			continue
		}
		t.Run(way, func(t *testing.T) {
			one, other := w.gate.open(t, "ada", e.cluster), w.gate.open(t, "ada", e.cluster)
			through := p.run(t, w, job{URL: one.url(host), Other: other.url(host), Cases: cases}, clientLimit)
			for _, name := range cases {
				t.Run(name, func(t *testing.T) {
					if err := compare(direct[name], through[name]); err != nil {
						t.Error(err)
					}
					t.Logf("%.2f s, directly %.2f s", through[name].Seconds, direct[name].Seconds)
				})
			}
		})
	}
}

// judge holds the reference itself to what is known: right where the engine can,
// an error where it is known that it can't.
func judge(t *testing.T, e *engine, p python, cases []string, direct map[string]line) {
	for _, name := range cases {
		problem := direct[name].failed()
		can := !slices.Contains(refused[e.name][""], name) && !slices.Contains(refused[e.name][p.name], name)
		switch {
		case can && problem != "":
			t.Errorf("%s: %s", name, problem)
		case !can && problem == "":
			t.Errorf("%s works on %s with %s now: take it out of the list of what it can't do", name, e.name, p.name)
		}
	}
}
