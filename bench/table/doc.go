// Package table turns repeated measurements into markdown: one row per peer,
// the median of each figure, and the least in brackets where that says more.
//
//	t := table.Table{Title: "W2", Columns: columns, Rows: rows}
//	err := t.WriteMarkdown(os.Stdout)
//
// Figures of one repetition are compared with those of the same repetition only
// (the floor's, the direct way's): a shared machine is now fast, now slow.
//
// It knows no workload and measures nothing.
package table
