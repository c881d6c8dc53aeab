package table

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strings"
)

// Values are the figures of one run, by name.
type Values map[string]float64

// Get returns a figure, or NaN if the run has none of that name.
func (v Values) Get(name string) float64 {
	if x, ok := v[name]; ok {
		return x
	}
	return math.NaN()
}

// Repetition is what one repetition brought: the peer's own figures and those
// of the floor and of the direct way beside it (nil if they were not run).
type Repetition struct {
	Own, Floor, Direct Values
}

// Column is one figure of a table.
type Column struct {
	// Head is the column's head.
	Head string
	// Value works the figure out; NaN where there is none.
	Value func(Repetition) float64
	// Digits are the decimals shown.
	Digits int
	// Least shows the least value in brackets after the median.
	Least bool
}

// Row is one peer.
type Row struct {
	Name string
	// Repetitions are those that succeeded.
	Repetitions []Repetition
	// Remark is put after the figures: why there are none, or a known fault.
	Remark string
}

// Table is one workload.
type Table struct {
	Title string
	// Text explains the workload; "" = nothing.
	Text    string
	Columns []Column
	Rows    []Row
}

// WriteMarkdown writes the table, without columns that are empty in every row.
func (t Table) WriteMarkdown(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "### %s\n\n", t.Title)
	if t.Text != "" {
		fmt.Fprintf(b, "%s\n\n", t.Text)
	}
	t.Columns = t.filled()
	remarks := t.remarks()
	heads := []string{"proxy", "n"}
	for _, c := range t.Columns {
		heads = append(heads, c.Head)
	}
	if remarks {
		heads = append(heads, "remark")
	}
	line(b, heads)
	line(b, rule(len(t.Columns)+1, remarks))
	for _, r := range t.Rows {
		line(b, t.cells(r, remarks))
	}
	fmt.Fprintln(b)
	return b.Flush()
}

// filled returns the columns in which some row has a figure.
func (t Table) filled() []Column {
	var columns []Column
	for _, c := range t.Columns {
		for _, r := range t.Rows {
			if c.cell(r.Repetitions) != "-" {
				columns = append(columns, c)
				break
			}
		}
	}
	return columns
}

func (t Table) remarks() bool {
	for _, r := range t.Rows {
		if r.Remark != "" {
			return true
		}
	}
	return false
}

func (t Table) cells(r Row, remarks bool) []string {
	cells := []string{r.Name, fmt.Sprint(len(r.Repetitions))}
	for _, c := range t.Columns {
		cells = append(cells, c.cell(r.Repetitions))
	}
	if remarks {
		cells = append(cells, strings.ReplaceAll(r.Remark, "|", "/"))
	}
	return cells
}

func (c Column) cell(reps []Repetition) string {
	values := make([]float64, len(reps))
	for i, r := range reps {
		values[i] = c.Value(r)
	}
	m := Median(values)
	if math.IsNaN(m) {
		return "-"
	}
	s := fmt.Sprintf("%.*f", c.Digits, m)
	if c.Least && len(reps) > 1 {
		s += fmt.Sprintf(" (%.*f)", c.Digits, Least(values))
	}
	return s
}

func line(w io.Writer, cells []string) {
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}

// rule is the line under the heads: the name, some figures, perhaps remarks.
func rule(figures int, remarks bool) []string {
	cells := []string{"---"}
	for range figures {
		cells = append(cells, "---:")
	}
	if remarks {
		cells = append(cells, "---")
	}
	return cells
}
