package main

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// story tells what happens, a line to a step, with the seconds since it began.
type story struct {
	w     io.Writer
	now   func() time.Time
	start time.Time
}

func newStory(w io.Writer, now func() time.Time) *story { return &story{w: w, now: now, start: now()} }

// step tells what is done.
func (s *story) step(format string, args ...any) { s.line("done", format, args...) }

// begin tells what is about to take a while.
func (s *story) begin(format string, args ...any) { s.line("", format, args...) }

func (s *story) line(mark, format string, args ...any) {
	fmt.Fprintf(s.w, "%6.1fs  %-4s  %s\n", s.now().Sub(s.start).Seconds(), mark, fmt.Sprintf(format, args...))
}

// indented writes lines further in, so that another program's words are told apart.
type indented struct {
	w     io.Writer
	begun bool // in the middle of a line
}

func indent(w io.Writer) io.Writer { return &indented{w: w} }

func (i *indented) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if !i.begun {
			if _, err := io.WriteString(i.w, "               "); err != nil {
				return 0, err
			}
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.begun = !bytes.HasSuffix(line, []byte("\n"))
	}
	return len(p), nil
}
