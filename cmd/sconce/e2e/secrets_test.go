package e2e

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// secret is something that nothing which a run wrote may hold, not even half of it.
type secret struct {
	what string
	text []string // any of these tells it
}

// secrets are all tokens and keys that were issued in this run, the engine's own token and the
// key that tokens are signed with. A token's header is no secret: all have the same.
func (w *world) secrets() []secret {
	list := []secret{{"the engine's pre-shared token", []string{engineSecret}}}
	issued.Lock()
	defer issued.Unlock()
	for _, token := range issued.tokens {
		parts := strings.Split(token, ".")[1:]
		if len(parts) == 0 { // an API key, whose first part names it in lists
			parts = []string{token[strings.LastIndexByte(token, '_')+1:]}
		}
		var pieces []string
		for _, p := range parts {
			pieces = append(pieces, halves(p)...)
		}
		list = append(list, secret{"a token that was issued in this run", pieces})
	}
	if text, err := os.ReadFile(filepath.Join(w.gate.dir, "signing.pem")); err == nil {
		if block, _ := pem.Decode(text); block != nil {
			body := strings.Split(string(text), "\n")
			list = append(list, secret{"the signing key", body[1 : len(body)-2]})
		}
	}
	return list
}

// halves of what is long enough that a half of it means something.
func halves(s string) []string {
	if len(s) < 40 {
		return []string{s}
	}
	return []string{s[:len(s)/2], s[len(s)/2:]}
}

// leaked searches everything that this run wrote for its secrets: the logs of every
// program that was started, what Sconce tells its operators, what Redis was ever
// told, and what any user of the machine can see of the process.
func (w *world) leaked() error {
	places, err := w.written()
	if err != nil {
		return err
	}
	outside.Lock()
	defer outside.Unlock()
	return errors.Join(append(outside.found, w.search(places)...)...)
}

// search looks for the secrets of this run, and for what its clients asked for in what
// Sconce and Redis wrote: engines may log their plans.
func (w *world) search(places map[string][]byte) (found []error) {
	secrets, asked := newFinder(w.secrets()), newFinder([]secret{{"the SQL of a query", askedFor}})
	for name, text := range places {
		what := secrets.in(text)
		if what == "" && (ofRedis(name) || strings.HasPrefix(filepath.Base(name), "sconce")) {
			what = asked.in(text)
		}
		if what != "" {
			found = append(found, fmt.Errorf("%s holds %s", name, what))
		}
	}
	return found
}

// askedFor is in the plans of many cases, and stands in no program.
var askedFor = []string{"repeat(md5(CAST(", "sum(id * 3) FROM", "SELECT sum(id % 7)", "SELECT 'before' AS v", "SELECT 42 AS secret"}

// outside is what was found in the folders of processes outside the world's, which
// are gone when the run is over.
var outside struct {
	sync.Mutex
	found    []error
	searched int
}

// search looks through what a process that has ended left in its folder, unless that is
// searched in the end.
func (c *child) search() {
	dir := filepath.Dir(c.log)
	if the == nil || strings.HasPrefix(dir+"/", the.dir+"/") {
		return
	}
	places := map[string][]byte{}
	err := files(dir, places, func(name string) bool {
		return name == filepath.Base(c.log) || name == "log" || c.name == "redis" && ofRedis(name)
	})
	outside.Lock()
	defer outside.Unlock()
	outside.searched += len(places)
	outside.found = append(outside.found, the.search(places)...)
	if err != nil {
		outside.found = append(outside.found, err)
	}
}

func ofRedis(name string) bool { return filepath.Ext(name) == ".aof" || filepath.Ext(name) == ".rdb" }

// written is all that was, by where it stands.
func (w *world) written() (map[string][]byte, error) {
	places := map[string][]byte{}
	if err := files(w.dir, places, written); err != nil {
		return nil, err
	}
	var err error
	for _, page := range []string{"/metrics", "/readyz", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline"} {
		if places[page], err = fetch(w.gate.admin + page); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", w.gate.child.cmd.Process.Pid, name))
		if err == nil {
			places["sconce's "+name] = text
		}
	}
	for _, must := range []string{"sconce.log", "sail.log", "spark.log", "redis.log", "/metrics"} {
		if len(places[must]) == 0 {
			return nil, fmt.Errorf("nothing was searched in %s", must)
		}
	}
	return places, nil
}

// written says which files are what a program wrote. Redis writes all commands down; the
// log of a launched engine is called log.
func written(name string) bool { return filepath.Ext(name) == ".log" || name == "log" || ofRedis(name) }

// files reads some files below a folder.
func files(dir string, places map[string][]byte, which func(name string) bool) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // engines take their files away meanwhile
		}
		if d.Type().IsRegular() && which(d.Name()) {
			text, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			rel, _ := filepath.Rel(dir, path)
			places[rel] = text
		}
		return nil
	})
}

func fetch(url string) ([]byte, error) {
	reply, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	return io.ReadAll(reply.Body)
}

// TestSearchFindsSecrets: a search that finds nothing must be able to find.
func TestSearchFindsSecrets(t *testing.T) {
	w := needs(t)
	token := w.gate.open(t, "ada", w.sail.cluster).Token
	found := func(text string) bool { return newFinder(w.secrets()).in([]byte(text)) != "" }
	parts := strings.Split(token, ".")
	for name, text := range map[string]string{
		"a token":                   "x " + token + " y",
		"half of a signature":       parts[2][:len(parts[2])/2],
		"the other half":            parts[2][len(parts[2])/2:],
		"the claims without a tail": parts[1][:len(parts[1])-20],
		"the engine's token":        "Bearer " + engineSecret,
	} {
		if !found(text) {
			t.Errorf("%s is not found", name)
		}
	}
	for name, want := range map[string]int{"sconce-2.log": 1, "a/sconce.log": 1, "appendonly.aof": 1, "spark.log": 0} {
		if got := w.search(map[string][]byte{name: []byte("SELECT sum(id % 7) AS s")}); len(got) != want {
			t.Errorf("SQL in %s: %v", name, got)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.log"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	outside.Lock()
	before := len(outside.found)
	outside.Unlock()
	(&child{log: filepath.Join(dir, "x.log")}).search()
	outside.Lock()
	if len(outside.found) != before+1 {
		t.Error("a token in another folder is not found")
	}
	outside.found = outside.found[:before]
	outside.Unlock()
	if found(parts[0]) {
		t.Error("the header of all tokens is taken for a secret")
	}
	places, err := w.written()
	if err != nil {
		t.Fatal(err)
	}
	aof := false
	for name := range places {
		aof = aof || filepath.Ext(name) == ".aof" && len(places[name]) > 0
	}
	if !aof {
		t.Error("what Redis was told is not searched")
	}
}

// authenticateToken is where Spark keeps its pre-shared token.
const authenticateToken = "spark.connect.authenticate.token"

// TestConfigKeepsTheToken asks an engine that has its token in its configuration for
// it, by every operation of Config that reads. That code which runs in the engine
// can read it all the same is what docs/operations.md says of it, and shown here:
// without that, this test would not know that there was anything to hand out.
func TestConfigKeepsTheToken(t *testing.T) {
	w := needs(t)
	t.Parallel()
	key := wire(nil).text(1, authenticateToken)
	reads := map[string]wire{
		"Get":                 wire(nil).message(2, key),
		"GetWithDefault":      wire(nil).message(3, wire(nil).message(1, key)),
		"GetOption":           wire(nil).message(4, key),
		"GetAll":              wire(nil).message(5, nil),
		"GetAll of connect":   wire(nil).message(5, wire(nil).text(1, "spark.connect.")),
		"GetAll of the whole": wire(nil).message(5, wire(nil).text(1, authenticateToken)),
		"IsModifiable":        wire(nil).message(7, key),
	}
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			s := w.gate.open(t, "ada", e.cluster)
			c, spark := s.caller(t), newUUID()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for name, operation := range reads {
				got, err := c.call(ctx, "Config", request(spark, "ada").message(3, operation))
				if bytes.Contains(got, []byte(engineSecret)) || err != nil && strings.Contains(err.Error(), engineSecret) {
					t.Errorf("%s hands it out", name)
				}
			}
			if e.secret == "" {
				return
			}
			got, err := c.call(ctx, "ExecutePlan", request(spark, "ada").query(
				"SELECT reflect('java.lang.System', 'getProperty', '"+authenticateToken+"')"))
			if err != nil || !bytes.Contains(got, []byte(engineSecret)) {
				t.Errorf("the engine does not have it in its configuration, so nothing was tested: %v", err)
			}
		})
	}
}
