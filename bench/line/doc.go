// Package line says how good Sconce has to be: the line of docs/design, one
// Criterion each, judged on the runs of the benchmark.
//
//	for _, c := range line.All() {
//		v := c.Judge(runs) // what was measured, and whether it holds
//	}
//
// A ratio or a difference is taken within each repetition; what is judged is
// the median over the repetitions.
package line
