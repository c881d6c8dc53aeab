package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// newTable lines up columns that are written with a tab between them.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 3, ' ', 0) }

// sheet shows one thing, a field to a line, and no line for what it does not have.
type sheet struct{ *tabwriter.Writer }

func newSheet(w io.Writer) sheet { return sheet{newTable(w)} }

func (s sheet) row(name, value string) {
	if value != "" {
		fmt.Fprintf(s, "%s\t%s\n", name, value)
	}
}

// at is row for a time, in the zone of whoever reads it.
func (s sheet) at(name string, t *time.Time) {
	if t != nil {
		s.row(name, t.Local().Format(time.RFC3339))
	}
}
