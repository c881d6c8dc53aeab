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
	"testing"
	"time"
)

// secret is something that nothing which a run wrote may hold, not even half of it.
type secret struct {
	what string
	text []string // any of these tells it
}

// secrets are all tokens that were issued in this run, the engine's own token and the
// key that tokens are signed with. A token's header is no secret: all have the same.
func (w *world) secrets() []secret {
	list := []secret{{"the engine's pre-shared token", []string{engineSecret}}}
	issued.Lock()
	defer issued.Unlock()
	for _, token := range issued.tokens {
		parts := strings.Split(token, ".")
		var pieces []string
		for _, p := range parts[1:] {
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
	var found []error
	secrets := newFinder(w.secrets())
	for name, text := range places {
		if what := secrets.in(text); what != "" {
			found = append(found, fmt.Errorf("%s holds %s", name, what))
		}
	}
	return errors.Join(found...)
}

// written is all that was, by where it stands.
func (w *world) written() (map[string][]byte, error) {
	places := map[string][]byte{}
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // engines take their files away meanwhile
		}
		// Redis writes all commands down: *.aof. The log of a launched engine is called log.
		if ext := filepath.Ext(path); d.Type().IsRegular() && (ext == ".log" || d.Name() == "log" || ext == ".aof" || ext == ".rdb") {
			text, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			rel, _ := filepath.Rel(w.dir, path)
			places[rel] = text
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
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
