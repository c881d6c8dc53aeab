package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestRateLimit puts clients behind a replica that lets in three requests in a
// second. Those that follow a RetryInfo are slow and notice nothing else, also
// where an engine cannot tell a query that never began from one that is lost; the
// others read the limit's name.
func TestRateLimit(t *testing.T) {
	w := needs(t)
	r := w.gate.replica(t, "limits: {session_requests: 3}\n")
	const queries = 45 // the burst is 30 requests
	for _, e := range []*engine{w.sail, w.spark} {
		for _, p := range []python{py35, py40, py41, newest} {
			t.Run(e.name+"/"+p.name, func(t *testing.T) {
				t.Parallel() // they mostly wait
				s := w.gate.open(t, "ada", e.cluster).through(r)
				got := p.run(t, w, job{URL: s.url("127.0.0.1"), Cases: []string{"many"}, Rows: queries}, 3*time.Minute)["many"]
				patient := p == py41 || p == newest
				if problem := got.failed(); patient && problem != "" {
					t.Error(problem)
				}
				told := strings.Contains(string(got.Error), "RATE_LIMITED") || strings.Contains(string(got.Error), "too many requests in a short time")
				if !patient && !(told && strings.Contains(string(got.Error), "limits.session_requests")) {
					t.Errorf("want to read of the limit, got %s", redact(got.steady()))
				}
				t.Logf("%v s", got.Seconds)
			})
		}
	}
}
