package table

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// Run is one line of the raw figures.
type Run struct {
	Workload, Peer string
	// Repetition counts from 1.
	Repetition int
	Values     Values
	// Err is why the run failed; nil if it did not.
	Err error
}

// WriteCSV writes every run: one line for each of its figures, and one with the
// error of a run that failed.
func WriteCSV(w io.Writer, runs []Run) error {
	out := csv.NewWriter(w)
	write := func(r Run, name, value string) error {
		return out.Write([]string{r.Workload, r.Peer, strconv.Itoa(r.Repetition), name, value})
	}
	if err := out.Write([]string{"workload", "proxy", "repetition", "figure", "value"}); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	for _, r := range runs {
		if r.Err != nil {
			if err := write(r, "error", r.Err.Error()); err != nil {
				return fmt.Errorf("write csv: %w", err)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(r.Values)) {
			if err := write(r, name, strconv.FormatFloat(r.Values[name], 'g', 8, 64)); err != nil {
				return fmt.Errorf("write csv: %w", err)
			}
		}
	}
	out.Flush()
	return out.Error()
}
