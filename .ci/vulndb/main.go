// Command vulndb keeps a part of the Go vulnerability database in the repository, so
// that `make lint` gives the same answer everywhere and without a network: what is
// known of the modules that Sconce is built of, and of Go itself.
//
//	go run ./.ci/vulndb pack CLONE FILE    from a clone of github.com/golang/vulndb
//	go run ./.ci/vulndb unpack FILE DIR    as govulncheck -db file://DIR reads it
//
// It is a snapshot and says of when. What was found since then is found by
// `make vuln`, which asks the database itself.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"
)

// snapshot is the file. Modules are those that it knows of: of a module that is not
// among them it says nothing, so a new one is an error and not a silence.
type snapshot struct {
	Source  string            `json:"source"`
	Commit  string            `json:"commit"`
	Date    time.Time         `json:"date"`
	Modules []string          `json:"modules"`
	Entries []json.RawMessage `json:"entries"`
}

// entry is what the indexes say of an OSV entry.
type entry struct {
	ID        string    `json:"id"`
	Modified  time.Time `json:"modified"`
	Withdrawn string    `json:"withdrawn"`
	Aliases   []string  `json:"aliases"`
	Affected  []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
		Ranges []struct {
			Events []struct {
				Fixed string `json:"fixed"`
			} `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
}

func main() {
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == "pack":
		err = pack(os.Args[2], os.Args[3])
	case len(os.Args) == 4 && os.Args[1] == "unpack":
		err = unpack(os.Args[2], os.Args[3])
	default:
		err = errors.New("usage: vulndb pack CLONE FILE | vulndb unpack FILE DIR")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vulndb:", err)
		os.Exit(1)
	}
}

// modules are all that the build may take anything from, in both modules of the tree.
func modules() ([]string, error) {
	list := []string{"stdlib", "toolchain"}
	for _, dir := range []string{".", "bench"} {
		cmd := exec.Command("go", "list", "-m", "-f", "{{.Path}}", "all")
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list -m all in %s: %w", dir, err)
		}
		list = append(list, strings.Fields(string(out))...)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func pack(clone, file string) error {
	known, err := modules()
	if err != nil {
		return err
	}
	s := snapshot{Source: "github.com/golang/vulndb, CC-BY 4.0", Modules: known}
	head, err := exec.Command("git", "-C", clone, "log", "-1", "--format=%H %cI").Output()
	if err != nil {
		return fmt.Errorf("%s is no clone of golang/vulndb: %w", clone, err)
	}
	commit, date, _ := strings.Cut(strings.TrimSpace(string(head)), " ")
	s.Commit = commit
	if s.Date, err = time.Parse(time.RFC3339, date); err != nil {
		return err
	}
	names, err := exec.Command("git", "-C", clone, "ls-tree", "-r", "--name-only", "HEAD", "data/osv").Output()
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(names)) {
		data, err := exec.Command("git", "-C", clone, "show", "HEAD:"+name).Output()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		kept, err := keep(data, known)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if kept != nil {
			s.Entries = append(s.Entries, kept)
		}
	}
	var b bytes.Buffer
	if err := s.write(&b); err != nil {
		return err
	}
	fmt.Printf("%d entries of %s\n", len(s.Entries), s.Date.Format(time.DateOnly))
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// write puts each entry on a line of its own, so that a change of one can be read.
func (s *snapshot) write(b *bytes.Buffer) error {
	entries := s.Entries
	s.Entries = nil
	head, err := json.Marshal(s)
	s.Entries = entries
	if err != nil {
		return err
	}
	b.Write(bytes.TrimSuffix(head, []byte("null}")))
	b.WriteString("[")
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(e)
	}
	b.WriteString("\n]}\n")
	return nil
}

// keep shortens an entry to what a check needs; nil = it is about none of the modules.
func keep(data []byte, known []string) (json.RawMessage, error) {
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, err
	}
	if e.Withdrawn != "" || !slices.ContainsFunc(known, e.about) {
		return nil, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	for _, name := range []string{"details", "references", "credits"} {
		delete(all, name)
	}
	return json.Marshal(all)
}

func (e *entry) about(module string) bool {
	for _, a := range e.Affected {
		if a.Package.Name == module {
			return true
		}
	}
	return false
}

func unpack(file, dir string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	now, err := modules()
	if err != nil {
		return err
	}
	for _, m := range now {
		if !slices.Contains(s.Modules, m) {
			return fmt.Errorf("%s knows nothing of module %s, which is new: run `make vulndb`", file, m)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := s.index(dir); err != nil {
		return err
	}
	fmt.Printf("vulnerabilities as known on %s (%s); make vuln asks for today's\n", s.Date.Format(time.DateOnly), file)
	return nil
}

// index writes the entries and the three indexes, as https://go.dev/doc/security/vuln/database has them.
func (s *snapshot) index(dir string) error {
	type vuln struct {
		ID       string    `json:"id"`
		Modified time.Time `json:"modified"`
		Aliases  []string  `json:"aliases,omitempty"`
		Fixed    string    `json:"fixed,omitempty"`
	}
	type module struct {
		Path  string `json:"path"`
		Vulns []vuln `json:"vulns"`
	}
	of := map[string]*module{}
	vulns := []vuln{}
	for _, raw := range s.Entries {
		var e entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		if err := write(filepath.Join(dir, "ID", e.ID+".json"), raw); err != nil {
			return err
		}
		vulns = append(vulns, vuln{ID: e.ID, Modified: e.Modified, Aliases: e.Aliases})
		for _, a := range e.Affected {
			m := of[a.Package.Name]
			if m == nil {
				m = &module{Path: a.Package.Name}
				of[m.Path] = m
			}
			fixed := ""
			for _, r := range a.Ranges {
				for _, ev := range r.Events {
					fixed = ev.Fixed
				}
			}
			if n := len(m.Vulns); n == 0 || m.Vulns[n-1].ID != e.ID {
				m.Vulns = append(m.Vulns, vuln{ID: e.ID, Modified: e.Modified, Fixed: fixed})
			}
		}
	}
	list := make([]*module, 0, len(of))
	for _, m := range of {
		list = append(list, m)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Path < list[j].Path })
	for name, value := range map[string]any{"modules": list, "vulns": vulns, "db": map[string]any{"modified": s.Date}} {
		data, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(dir, "index", name+".json"), data); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
