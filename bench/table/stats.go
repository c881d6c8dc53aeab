package table

import (
	"math"
	"slices"
)

// Median returns the middle of values, the mean of the middle two of an even
// number, and NaN of none. NaN values are left out.
func Median(values []float64) float64 {
	v := known(values)
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	mid := len(v) / 2
	if len(v)%2 == 1 {
		return v[mid]
	}
	return (v[mid-1] + v[mid]) / 2
}

// Least returns the smallest of values, and NaN of none. NaN values are left out.
func Least(values []float64) float64 {
	v := known(values)
	if len(v) == 0 {
		return math.NaN()
	}
	return slices.Min(v)
}

// Percentile returns the value that the share p (0 to 1) of values does not
// exceed, by nearest rank, and 0 of none. It sorts values.
func Percentile[T ~int64](values []T, p float64) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := int(math.Ceil(p*float64(len(values)))) - 1
	return values[min(max(rank, 0), len(values)-1)]
}

func known(values []float64) []float64 {
	v := make([]float64, 0, len(values))
	for _, x := range values {
		if !math.IsNaN(x) {
			v = append(v, x)
		}
	}
	return v
}
