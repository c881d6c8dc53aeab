package e2e

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestWhatIsLostIsSaidOnce: what could not be brought onto the new engine ends one query
// of the client with a list of it. The same SparkSession goes on after that, with the
// rest, and `sconce session describe` keeps saying it: the same, and what was only a
// matter of time.
func TestWhatIsLostIsSaidOnce(t *testing.T) {
	w := needs(t)
	config, dir := own(t, w)
	one, two := w.gate.replica(t, config), w.gate.replica(t, config)
	const view, stream, cache = "temporary view `e2e_lost`", "a streaming query", "the cache of table `e2e_kept`"
	for _, tc := range []struct {
		cluster, lost string
		clients       []python
		lacks, untold []string
	}{
		{"own-sail-session", "lost_sail", []python{py40, newest}, []string{view}, nil},
		{"own-spark-session", "lost_spark", []python{py40, newest}, []string{view, stream}, []string{cache}},
	} {
		for _, p := range tc.clients {
			t.Run(tc.cluster+"/"+p.name, func(t *testing.T) {
				s := one.sleepy(t, tc.cluster)
				var client struct{ Said []string }
				through(t, w, dir, s, two, func(url, scratch string) line {
					got := p.run(t, w, job{URL: url, Cases: []string{tc.lost}, Scratch: scratch}, 6*time.Minute)[tc.lost]
					_ = json.Unmarshal(got.Result, &client) // else it was told nothing
					return got
				})
				told := strings.Join(client.Said, "\n")
				list := lossesOf(t, s)
				for _, what := range tc.untold {
					if list[what] == "" {
						t.Errorf("it is described to have lost %q, without %s", list, what)
					}
					delete(list, what)
				}
				for _, what := range tc.lacks {
					why := list[what]
					// In a refusal commands alone have backticks.
					if same := strings.ReplaceAll(what+" ("+why+")", "`", "'"); why == "" || !strings.Contains(told, same) {
						t.Errorf("of %s it is described that %q, and its client read %s", what, why, redact(shorten(told)))
					}
				}
				if len(list) != len(tc.lacks) {
					t.Errorf("it is described to have lost %q, and its client read %s", list, redact(shorten(told)))
				}
			})
		}
	}
}

var lossForm = regexp.MustCompile(`^(.*?): (.*) \(Spark session [0-9a-f-]{36}\)$`)

// lossesOf is what a session is described to have lost, and why, in JSON. It must stand
// in what people read, too.
func lossesOf(t *testing.T, s *session) map[string]string {
	t.Helper()
	list, sheet := map[string]string{}, s.sheet(t)
	for _, text := range s.described(t).Lost {
		parts := lossForm.FindStringSubmatch(text)
		if parts == nil {
			t.Fatalf("it is described to have lost %q", text)
		}
		list[parts[1]] = parts[2]
		if !regexp.MustCompile(`(?m)^not carried over +` + regexp.QuoteMeta(text) + `$`).MatchString(sheet) {
			t.Errorf("%q is not in\n%s", text, sheet)
		}
	}
	return list
}
