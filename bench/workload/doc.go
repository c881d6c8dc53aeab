// Package workload is the catalogue of what the benchmark does to a proxy: one
// Workload for each table, named as in docs/design.
//
//	for _, w := range workload.All() {
//		values, err := w.Run(ctx, workload.Rig{Target: target, PID: pid})
//		...
//	}
//
// Run begins with a fresh process: it opens its connections, warms up, and only
// then begins to count. Every run is bounded in time and in number.
//
// It starts no processes and knows no proxy by name.
package workload
