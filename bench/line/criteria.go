package line

import (
	"fmt"

	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/table"
)

// All returns the line.
func All() []Criterion {
	var all []Criterion
	all = append(all, calls()...)
	all = append(all, bytes()...)
	all = append(all, latency()...)
	all = append(all, memory()...)
	return append(all,
		Criterion{
			Workload: "W8", Text: "40 stalled streams do not slow 4 fast ones: beside ÷ alone", Most: 1.5,
			Value: func(own, _ table.Values) float64 { return own.Get("beside_s") / own.Get("alone_s") },
		},
		Criterion{
			Workload: "W9", Text: "CPU per RPC with many sessions ÷ with one", Peer: peers.SconceMany, Most: 1.05,
			Value: func(own, many table.Values) float64 { return cpuPerCall(many) / cpuPerCall(own) },
		})
}

func rivals() []string { return []string{"nginx", "haproxy", "nghttpx", "envoy", "grpcraw"} }

func cpuPerCall(v table.Values) float64 { return v.Get("cpu_s") / v.Get("calls") }

// cpuRatio compares CPU seconds: the work is the same for all.
func cpuRatio(own, peer table.Values) float64 { return own.Get("cpu_s") / peer.Get("cpu_s") }

// cpu is a demand on the ratio of CPU to a peer's.
func cpu(workload, peer string, most float64) Criterion {
	return Criterion{
		Workload: workload, Peer: peer, Value: cpuRatio, Most: most,
		Text: fmt.Sprintf("CPU ÷ %s", peer),
	}
}

func calls() []Criterion {
	most := map[string]float64{"nginx": 1.0 / 3, "grpcraw": 1.0 / 6, "envoy": 1.0 / 6}
	var all []Criterion
	for _, p := range rivals() {
		limit, ok := most[p]
		if !ok {
			limit = 1
		}
		all = append(all, cpu("W1_1x64", p, limit))
	}
	return append(all, cpu("W1_1x1", "nginx", 1))
}

func bytes() []Criterion {
	var all []Criterion
	for _, w := range []string{"W2", "W2b", "W2c", "W3", "W4"} {
		for _, p := range rivals() {
			all = append(all, cpu(w, p, 1))
		}
	}
	return append(all, cpu("W2", "tcp", 1.15), cpu("W4", "tcp", 1.15), cpu("W3", "tcp", 1.4), cpu("W7_W2", "nginx", 1))
}

func latency() []Criterion {
	return []Criterion{
		{
			Workload: "W1_1x1", Text: "p50 of a small RPC, more than through a TCP copy, µs", Peer: "tcp", Most: 30,
			Value: func(own, tcp table.Values) float64 { return own.Get("p50_us") - tcp.Get("p50_us") },
		},
		{
			Workload: "W2c", Text: "first byte of a 128 MiB message, more than through a TCP copy, µs", Peer: "tcp", Most: 1000,
			Value: func(own, tcp table.Values) float64 { return own.Get("first_byte_us") - tcp.Get("first_byte_us") },
		},
	}
}

func memory() []Criterion {
	above := func(own, _ table.Values) float64 {
		return (own.Get("rss_peak_bytes") - own.Get("rss_before_bytes")) / 1e6
	}
	each := func(own, _ table.Values) float64 {
		return (own.Get("rss_after_bytes") - own.Get("rss_before_bytes")) / own.Get("held") / 1e3
	}
	return []Criterion{
		{Workload: "W2c", Text: "one 128 MiB message, MB above idle", Value: above, Most: 16},
		{Workload: "W5_64x1", Text: "64 slow readers, MB above idle", Value: above, Most: 48},
		{Workload: "W5_1x64", Text: "64 slow readers on one connection, MB above idle", Value: above, Most: 48},
		{Workload: "W6_conns", Text: "a connection used once and idle, kB", Value: each, Most: 12},
		{Workload: "W6_streams", Text: "an open stream, kB", Value: each, Most: 16},
	}
}
