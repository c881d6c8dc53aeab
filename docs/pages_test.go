package docs

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy"
)

// pages are the documents: every page of markdown in the project.
func pages(t *testing.T) []string {
	t.Helper()
	list := slices.DeleteFunc(files(t), func(name string) bool { return !strings.HasSuffix(name, ".md") })
	if !slices.Contains(list, "README.md") {
		t.Fatal("there is no README.md: the guards look in the wrong place")
	}
	return list
}

// matches calls visit with the first group of every match in every page.
func matches(t *testing.T, expr string, visit func(page, found string)) {
	t.Helper()
	re, n := regexp.MustCompile(expr), 0
	for _, page := range pages(t) {
		for _, m := range re.FindAllStringSubmatch(readFile(t, page), -1) {
			n++
			visit(page, m[1])
		}
	}
	if n == 0 {
		t.Errorf("no page has anything like %s: this guard cannot fail", expr)
	}
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil
}

func TestLinksLeadSomewhere(t *testing.T) {
	matches(t, `\]\(([^)\s]+)\)`, func(page, link string) {
		if strings.Contains(link, "://") {
			return
		}
		file, anchor, _ := strings.Cut(link, "#")
		target := page
		if file != "" {
			target = path.Join(path.Dir(page), file)
		}
		if !exists(target) {
			t.Errorf("%s links to %s, which is not there", page, link)
		} else if anchor != "" && !slices.Contains(anchors(readFile(t, target)), anchor) {
			t.Errorf("%s links to %s, and %s has no such heading", page, link, target)
		}
	})
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors are the headings of a page as links name them.
func anchors(text string) (list []string) {
	for line := range strings.SplitSeq(text, "\n") {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			list = append(list, strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(title), ""), " ", "-"))
		}
	}
	return list
}

// Paths in backquotes that begin in one of the rooms are files of ours.
func TestPathsInPagesExist(t *testing.T) {
	matches(t, "`((?:cmd|proxy|auth|sessions|proto|configs|docs|bench|\\.ci)/[A-Za-z0-9_./-]*)`", func(page, name string) {
		if name = strings.TrimRight(name, "/."); !exists(name) {
			t.Errorf("%s names %s, which is not there", page, name)
		}
	})
}

func TestTestsInPagesExist(t *testing.T) {
	known := map[string]bool{}
	for _, f := range goFiles(t) {
		for _, name := range f.funcs {
			known[name] = known[name] || f.test
		}
	}
	matches(t, "`((?:Test|Fuzz|Benchmark)[A-Z0-9][A-Za-z0-9]*)`", func(page, name string) {
		if !known[name] {
			t.Errorf("%s names the test %s, which is not there", page, name)
		}
	})
}

func TestMakeTargetsInPagesExist(t *testing.T) {
	makefile := readFile(t, "Makefile")
	matches(t, "(?m)(?:`|^ *|^\\$ )make ([a-z0-9-]+)", func(page, target string) {
		if !regexp.MustCompile(`(?m)^` + target + `:`).MatchString(makefile) {
			t.Errorf("%s names make %s, which is not there", page, target)
		}
	})
}

var metricName = regexp.MustCompile(`"(sconce_[a-z_]+)"`)

// Every metric is in docs/operations.md, and every one there is in the code.
func TestMetricsAreDocumented(t *testing.T) {
	page := readFile(t, "docs/operations.md")
	var known []string
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		for _, m := range metricName.FindAllStringSubmatch(readFile(t, f.name), -1) {
			known = append(known, m[1])
			if !strings.Contains(page, "`"+m[1]+"`") {
				t.Errorf("docs/operations.md says nothing of %s", m[1])
			}
		}
	}
	for _, m := range regexp.MustCompile("`(sconce_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("docs/operations.md speaks of %s, which is not there", m[1])
		}
	}
}

var errorRow = regexp.MustCompile("(?m)^\\| `([A-Z_0-9]+)` \\| ([A-Z_]+) ")

// The page is generated, and package proxy compares it whole; this one finds a
// refusal that never got into the table's page, and a row whose refusal is gone.
func TestEveryRefusalIsInTheErrorsPage(t *testing.T) {
	rows, said := map[string]bool{}, map[string]bool{}
	for _, m := range errorRow.FindAllStringSubmatch(readFile(t, "docs/errors.md"), -1) {
		rows[m[1]] = true
	}
	for _, r := range proxy.Refusals() {
		if !rows[r.Reason] {
			t.Errorf("docs/errors.md has no row for %s", r.Reason)
		}
		said[r.Reason] = true
	}
	for reason := range rows {
		if !said[reason] {
			t.Errorf("docs/errors.md has a row for %s, which nobody says", reason)
		}
	}
}

// Every setting of configs/example.yaml that operations.md names exists there.
func TestSettingsInOperationsExist(t *testing.T) {
	example := readFile(t, "configs/example.yaml")
	found := regexp.MustCompile("`((?:admin|tls|redis|auth|limits|log)\\.[a-z_.]+)`").FindAllStringSubmatch(readFile(t, "docs/operations.md"), -1)
	if len(found) == 0 {
		t.Fatal("docs/operations.md names no setting: this guard cannot fail")
	}
	for _, m := range found {
		for part := range strings.SplitSeq(m[1], ".") {
			if !regexp.MustCompile(`(?m)^\s*` + part + `:`).MatchString(example) {
				t.Errorf("docs/operations.md names the setting %s, and configs/example.yaml has no %s", m[1], part)
			}
		}
	}
}
