package line

import (
	"fmt"
	"io"
	"math"

	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/table"
)

// Criterion is one demand on Sconce: Value is at most Most.
type Criterion struct {
	// Workload is the name of the workload that shows it.
	Workload string
	// Text is the demand in words, with its number.
	Text string
	// Peer is who Sconce is compared with; "" = nobody.
	Peer string
	// Value works out what is judged from Sconce's figures and the peer's.
	Value func(own, peer table.Values) float64
	// Most is the largest value that holds.
	Most float64
}

// Verdict is what the runs say about a criterion.
type Verdict struct {
	// Value is the median; NaN if no repetition has all that is needed.
	Value float64
	Holds bool
}

// Judge looks the criterion up in the runs.
func (c Criterion) Judge(runs []table.Run) Verdict {
	var values []float64
	for _, own := range runs {
		if own.Workload != c.Workload || own.Peer != peers.SconceName || own.Err != nil {
			continue
		}
		if c.Peer == "" {
			values = append(values, c.Value(own.Values, nil))
		} else if peer := beside(runs, own, c.Peer); peer != nil {
			values = append(values, c.Value(own.Values, peer))
		}
	}
	v := Verdict{Value: table.Median(values)}
	v.Holds = v.Value <= c.Most
	return v
}

// beside returns a peer's figures of the same repetition, or nil.
func beside(runs []table.Run, own table.Run, peer string) table.Values {
	for _, r := range runs {
		if r.Workload == own.Workload && r.Repetition == own.Repetition && r.Peer == peer && r.Err == nil {
			return r.Values
		}
	}
	return nil
}

// WriteMarkdown writes a table of the criteria that the runs say something about.
func WriteMarkdown(w io.Writer, runs []table.Run) {
	fmt.Fprint(w, "### The line\n\n| workload | demand | measured | at most | holds |\n| --- | --- | ---: | ---: | --- |\n")
	for _, c := range All() {
		v := c.Judge(runs)
		if math.IsNaN(v.Value) {
			continue
		}
		holds := "yes"
		if !v.Holds {
			holds = "**no**"
		}
		fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %s |\n", c.Workload, c.Text, v.Value, c.Most, holds)
	}
	fmt.Fprintln(w)
}
