package docs

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/licences.md anew")

// licences are those that may be in the binary, and words by which their texts are
// told. A file may hold several.
var licences = []struct {
	name  string
	words []string
}{
	{"Apache-2.0", []string{"apache license", "version 2.0, january 2004"}},
	{"MIT", []string{"permission is hereby granted, free of charge", "the software is provided \"as is\""}},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "neither the name"}},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms"}},
}

// dependency is a module that is in the binary.
type dependency struct{ path, licence, notice string }

// TestLicences holds docs/licences.md against what is linked into sconce. A new
// dependency fails it, and so does one whose licence changed or is none that is known here.
func TestLicences(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Licences of what is in the binary\n\n<!-- Generated: go test ./docs -run TestLicences -update -->\n\n" +
		"Sconce is under the Apache License 2.0 ([LICENSE](../LICENSE)). These modules are linked into `sconce`; whoever hands\n" +
		"the binary on hands their licences on too. Versions are in go.mod, and `make sbom` lists them with hashes.\n\n" +
		"| module | licence | notice |\n|---|---|---|\n")
	for _, d := range linked(t) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", d.path, d.licence, d.notice)
	}
	if *update {
		if err := os.WriteFile("licences.md", b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile("licences.md")
	if err != nil {
		t.Fatal(err)
	}
	want, got := strings.Split(b.String(), "\n"), strings.Split(string(page), "\n")
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("not in licences.md: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("in licences.md and not so: %s", line)
		}
	}
	if t.Failed() {
		t.Error("look at what changed, then run: go test ./docs -run TestLicences -update")
	}
}

func linked(t *testing.T) []dependency {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", "./cmd/sconce")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0") // what is shipped
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	var list []dependency
	for _, line := range slices.Compact(lines) {
		if name, dir, ok := strings.Cut(line, " "); ok {
			list = append(list, licensed(t, name, dir))
		}
	}
	if len(list) < 10 {
		t.Fatalf("only %d modules are linked: this test looks at the wrong thing", len(list))
	}
	return list
}

// licensed reads what lies beside a module's code.
func licensed(t *testing.T, module, dir string) dependency {
	t.Helper()
	d := dependency{path: module}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".txt"), ".md"))
		switch name {
		case "LICENSE", "LICENCE", "COPYING":
			d.licence = told(t, filepath.Join(dir, e.Name()))
		case "NOTICE":
			d.notice = "NOTICE"
		}
	}
	if d.licence == "" {
		t.Errorf("%s has no licence that is known here: read it, and add it to the list in this test only if the binary may hold it", module)
	}
	return d
}

func told(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.Join(strings.Fields(strings.ToLower(string(text))), " ")
	var names []string
	for _, l := range licences {
		if !slices.ContainsFunc(l.words, func(w string) bool { return !strings.Contains(flat, w) }) {
			names = append(names, l.name)
		}
	}
	if slices.Contains(names, "BSD-3-Clause") { // which has the words of the other
		names = slices.DeleteFunc(names, func(n string) bool { return n == "BSD-2-Clause" })
	}
	return strings.Join(names, ", ")
}
