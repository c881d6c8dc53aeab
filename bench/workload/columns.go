package workload

import "github.com/sconce-dev/sconce/bench/table"

// own is a column of one figure, multiplied.
func own(head, figure string, factor float64, digits int) table.Column {
	return table.Column{Head: head, Digits: digits, Value: func(r table.Repetition) float64 {
		return r.Own.Get(figure) * factor
	}}
}

// per is a column of one figure for each of another, multiplied.
func per(head, figure, each string, factor float64, digits int) table.Column {
	return table.Column{Head: head, Digits: digits, Value: func(r table.Repetition) float64 {
		return r.Own.Get(figure) / r.Own.Get(each) * factor
	}}
}

// least makes a column show its least value too.
func least(c table.Column) table.Column {
	c.Least = true
	return c
}

// overFloor is the ratio of a figure to the floor's in the same repetition.
func overFloor(figure string) table.Column {
	return table.Column{Head: "÷ floor", Digits: 2, Value: func(r table.Repetition) float64 {
		return r.Own.Get(figure) / r.Floor.Get(figure)
	}}
}

// overDirect is the ratio of the wall time to that without a proxy.
func overDirect() table.Column {
	return table.Column{Head: "wall ÷ direct", Digits: 2, Value: func(r table.Repetition) float64 {
		return r.Own.Get(figureWall) / r.Direct.Get(figureWall)
	}}
}

// added is what a figure has more than the direct way's in the same repetition.
func added(head, figure string, factor float64, digits int) table.Column {
	return table.Column{Head: head, Digits: digits, Value: func(r table.Repetition) float64 {
		return (r.Own.Get(figure) - r.Direct.Get(figure)) * factor
	}}
}

// grown is how much more memory figure shows than before the run, in MB.
func grown(head, figure string, digits int) table.Column {
	return table.Column{Head: head, Digits: digits, Value: func(r table.Repetition) float64 {
		return (r.Own.Get(figure) - r.Own.Get(figureIdle)) / 1e6
	}}
}

// grownPer is the memory kept since before the run for each of a number, in kB.
func grownPer(head, each string) table.Column {
	return table.Column{Head: head, Digits: 1, Value: func(r table.Repetition) float64 {
		return (r.Own.Get(figureRSS) - r.Own.Get(figureIdle)) / r.Own.Get(each) / 1e3
	}}
}
