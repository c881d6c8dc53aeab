package configs

import (
	"fmt"
	"sort"
	"strings"
)

// Fault is one thing wrong with a configuration.
type Fault struct {
	// Source is where it was written ("sconce.yaml:7", "SCONCE_LISTEN",
	// "--set listen"), or "" for something that was not written at all.
	Source string
	// Line is its line in the file; 0 = not in the file.
	Line int
	// Path is the key, "clusters[1].address"; "" = the file as a whole.
	Path string
	// Problem ends with what to write instead.
	Problem string
}

func (f Fault) String() string {
	parts := make([]string, 0, 3)
	for _, s := range []string{f.Source, f.Path, f.Problem} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Faults is everything wrong with a configuration, one line each. It is the
// error that Load returns.
type Faults []Fault

func (fs Faults) Error() string {
	var b strings.Builder
	noun := "faults"
	if len(fs) == 1 {
		noun = "fault"
	}
	fmt.Fprintf(&b, "configuration: %d %s", len(fs), noun)
	for _, f := range fs {
		b.WriteString("\n  ")
		b.WriteString(f.String())
	}
	return b.String()
}

// sorted orders faults as a reader meets them: by line, then by key.
func (fs Faults) sorted() Faults {
	sort.SliceStable(fs, func(i, j int) bool {
		if fs[i].Line != fs[j].Line {
			return fs[i].Line < fs[j].Line
		}
		return fs[i].Path < fs[j].Path
	})
	return fs
}

// err is nil when there are no faults.
func (fs Faults) err() error {
	if len(fs) == 0 {
		return nil
	}
	return fs.sorted()
}
