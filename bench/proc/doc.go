// Package proc reads from /proc what a tree of processes uses.
//
//	tree := proc.Tree(pid)         // the process and all its descendants
//	before, err := proc.Read(tree) // CPU, context switches, resident memory
//	err = proc.ResetPeak(tree)     // from here on, what was the most memory?
//	...
//	after, err := proc.Read(tree)
//	used := after.Sub(before)
//
// User and system time come in clock ticks of 10 ms; their sum is exact as long
// as no thread ended (schedstat). Memory is the
// sum over the processes of the tree: pages that a master and its workers share
// are counted for each, and the peak is the sum of each process's own peak.
//
// It is Linux only, and sees no CPU of processes that began and ended between
// two readings.
package proc
