// Package docs is the project's documents. Its tests are the guards of the
// house: what the documents promise about the tree, and what the tree may
// look like. They read files and run nothing but `git ls-files` and `go list`.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = ".."
	module = "github.com/sconce-dev/sconce"
	// mostLines is how long a file of Go may be that a person wrote and that is
	// no test.
	mostLines = 500
)

// notOurs are folders that hold what was built or downloaded.
var notOurs = []string{".git", ".cache", "bin", ".sconce", "dist", "__pycache__"}

// files lists the files of the project, as slash paths from its root: those that
// git knows or would, and without git all that is there.
func files(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != root && slices.Contains(notOurs, d.Name()):
			return fs.SkipDir
		case d.IsDir() || d.Name() == ".git":
			return nil
		}
		rel, err := filepath.Rel(root, p)
		found = append(found, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return found
	}
	known := map[string]bool{}
	for name := range strings.SplitSeq(string(out), "\x00") {
		known[name] = true
	}
	return slices.DeleteFunc(found, func(name string) bool { return !known[name] })
}

// goFile is what the guards want to know of one file of Go.
type goFile struct {
	name, dir string // slash paths from the root; dir "." = the root
	pkg       string
	test      bool
	doc       bool // it has a package comment
	generated bool
	lines     int
	imports   []string
	funcs     []string
}

func goFiles(t *testing.T) []goFile {
	t.Helper()
	var list []goFile
	for _, name := range files(t) {
		if strings.HasSuffix(name, ".go") && !strings.Contains(name, "testdata/") {
			list = append(list, readGo(t, name))
		}
	}
	if len(list) < 100 {
		t.Fatalf("only %d files of Go found: the guards look in the wrong place", len(list))
	}
	return list
}

func readGo(t *testing.T, name string) goFile {
	t.Helper()
	text := readFile(t, name)
	parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	f := goFile{
		name: name, dir: path.Dir(name), pkg: parsed.Name.Name, test: strings.HasSuffix(name, "_test.go"),
		doc: parsed.Doc != nil, generated: ast.IsGenerated(parsed), lines: strings.Count(text, "\n"),
	}
	for _, i := range parsed.Imports {
		at, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		f.imports = append(f.imports, at)
	}
	for _, d := range parsed.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
			f.funcs = append(f.funcs, fn.Name.Name)
		}
	}
	return f
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryPackageIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		documented[f.dir] = documented[f.dir] || f.doc
	}
	for dir, has := range documented {
		if !has {
			t.Errorf("package %s has no package comment: say what it is, and what it does not do", dir)
		}
	}
}

// edges is which of our packages the code of a package may import. What is not
// here may import none. cmd is not here: it may import all.
var edges = map[string][]string{
	"proxy":                {"auth", "sessions", "proxy/relay", "proto/spark/connect"},
	"proxy/control":        {"proxy", "auth", "sessions", "proto/sconce/v1", "proto/sconce/v1/rest"},
	"proxy/relay":          {},
	"auth":                 {},
	"auth/openid":          {"auth"},
	"sessions":             {"auth", "proto/spark/connect", "sessions/failpoint"},
	"sessions/failpoint":   {},
	"sessions/redisstore":  {"sessions"},
	"sessions/launch":      {"sessions", "sessions/failpoint"},
	"configs":              {},
	"proto":                {},
	"proto/sconce/v1":      {},
	"proto/sconce/v1/rest": {"proto/sconce/v1"},
	"proto/spark/connect":  {},

	// The test kits.
	"proxy/proxytest":            {"auth"},
	"proxy/proxytest/gateway":    {"proxy/proxytest", "proxy", "proxy/relay", "sessions", "sessions/redisstore"},
	"sessions/storetest":         {"sessions"},
	"sessions/launch/launchtest": {"sessions", "sessions/storetest"},
	"cmd/sconce/scripttest":      {"sessions/storetest"},

	// The benchmark fills a registry.
	"bench/peers": {"sessions", "sessions/redisstore"},
}

// testEdges is what tests may import besides, and nothing but tests and kits.
var testEdges = []string{"proxy/proxytest", "proxy/proxytest/gateway", "sessions/storetest", "sessions/launch/launchtest"}

// testMore is what the tests of single packages may import besides that.
var testMore = map[string][]string{
	"docs":                {"proxy"},
	"proto":               {"proto/sconce/v1", "proto/spark/connect"},
	"sessions/redisstore": {"auth"},
}

// mayImport says whether a file of package from may import package to.
func mayImport(from, to string, test bool) bool {
	switch {
	case slices.Contains(edges[from], to):
		return true
	case from == "cmd" || strings.HasPrefix(from, "cmd/"):
		return test || !slices.Contains(testEdges, to)
	}
	return test && (from == to || slices.Contains(testEdges, to) || slices.Contains(testMore[from], to))
}

func TestMayImport(t *testing.T) {
	for _, c := range []struct {
		from, to string
		test     bool
		want     bool
	}{
		{"cmd/sconce", "sessions/redisstore", false, true},
		{"cmd/sconce", "sessions/storetest", false, false},
		{"cmd/sconce", "sessions/storetest", true, true},
		{"proxy", "sessions", false, true},
		{"sessions", "proxy", false, false},
		{"sessions", "proxy", true, false},
		{"proxy/relay", "sessions", false, false},
		{"proxy/relay", "proxy/proxytest", false, false},
		{"proxy/relay", "proxy/proxytest", true, true},
		{"proxy", "configs", false, false},
		{"auth", "sessions", true, false},
		{"nowhere", "auth", false, false},
	} {
		if got := mayImport(c.from, c.to, c.test); got != c.want {
			t.Errorf("mayImport(%s, %s, test %v) = %v", c.from, c.to, c.test, got)
		}
	}
}

func TestImportsRunOneWay(t *testing.T) {
	seen := 0
	for _, f := range goFiles(t) {
		for _, i := range f.imports {
			to, ours := strings.CutPrefix(i, module+"/")
			if !ours || strings.HasPrefix(f.dir, "bench") && strings.HasPrefix(to, "bench/") {
				continue
			}
			seen++
			if !mayImport(f.dir, to, f.test) {
				t.Errorf("%s imports %s: the table of this test does not let %s do that", f.name, to, f.dir)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d imports of our own seen: the guard looks in the wrong place", seen)
	}
}

// foreign are the few packages in which an outside import may appear at all, by
// the beginning of its path.
var foreign = map[string][]string{
	"github.com/redis/go-redis":       {"sessions/redisstore", "sessions/storetest", "cmd/sconce", "bench/peers"},
	"github.com/golang-jwt/jwt":       {"auth"},
	"github.com/grpc-ecosystem":       {"proto/sconce/v1/rest", "proxy/control"},
	"github.com/coreos/go-oidc":       {"auth/openid"},
	"github.com/spf13/cobra":          {"cmd/sconce"},
	"net/http/httputil":               {},
	"golang.org/x/net/http2/h2c":      {},
	"golang.org/x/net/http2/hpack":    {"proxy", "proxy/relay", "proxy/proxytest", "bench/wire", "bench/load", "bench/backend"},
	"github.com/alicebob/miniredis":   {"cmd/sconce", "sessions/storetest", "proxy/proxytest/gateway"},
	"github.com/goccy/go-yaml":        {"configs", "cmd/sconce"},
	"github.com/prometheus/client_go": {"proxy", "cmd/sconce"},
}

func TestForeignImportsStayInTheirRooms(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, i := range f.imports {
			for begin, rooms := range foreign {
				if strings.HasPrefix(i, begin) && !f.test && !slices.Contains(rooms, f.dir) {
					t.Errorf("%s imports %s, which only %v may", f.name, i, rooms)
				}
			}
			if f.dir == "auth" && !f.test && (strings.Contains(i, "http") || strings.Contains(i, "grpc") || strings.Contains(i, "redis")) {
				t.Errorf("%s imports %s: auth knows no HTTP, no gRPC and no Redis", f.name, i)
			}
		}
	}
}

func TestNoPackageOfEverything(t *testing.T) {
	forbidden := []string{"internal", "pkg", "util", "utils", "common", "helpers", "misc", "log", "errors", "metrics"}
	for _, f := range goFiles(t) {
		for part := range strings.SplitSeq(f.dir+"/"+f.pkg, "/") {
			if slices.Contains(forbidden, part) {
				t.Errorf("%s: a package is named for what it holds, not %q", f.name, part)
			}
		}
	}
}

func TestTopLevelIsTheDesigns(t *testing.T) {
	allowed := []string{
		"go.mod", "go.sum", "cmd", "proxy", "auth", "sessions", "proto", "configs", "docs", "bench",
		"Dockerfile", ".dockerignore", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
		".ci", ".gitignore", ".golangci.yml",
	}
	for _, name := range files(t) {
		if top, _, _ := strings.Cut(name, "/"); !slices.Contains(allowed, top) {
			t.Errorf("%s: the top level has no place for %s", name, top)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, f := range goFiles(t) {
		if !f.test && !f.generated && f.lines >= mostLines {
			t.Errorf("%s has %d lines: split it by noun, below %d", f.name, f.lines, mostLines)
		}
	}
}
