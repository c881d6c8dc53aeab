package proxytest

import (
	"slices"
	"time"
)

// Pace is how often something was done in each of some slices of time. What a test
// judges is the medians of two paces that were taken in turn: a machine that is busy
// with other things slows both, and one slow slice moves neither.
type Pace []int

// slice is long enough for some calls over loopback on a slow machine.
const slice = 50 * time.Millisecond

// Take adds a slice: it does it until the slice is over, once at least.
func (p *Pace) Take(do func()) {
	n := 0
	for begun := time.Now(); time.Since(begun) < slice; n++ {
		do()
	}
	*p = append(*p, n)
}

// Median is the median of what was taken.
func (p Pace) Median() int {
	if len(p) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(p))
	return sorted[len(sorted)/2]
}
