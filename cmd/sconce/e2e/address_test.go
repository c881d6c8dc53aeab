package e2e

import (
	"strings"
	"testing"
)

// TestAddressTellsTheEngine: clusters that are an address say which Spark answers there,
// and so do their sessions.
func TestAddressTellsTheEngine(t *testing.T) {
	w := needs(t)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			s := w.gate.open(t, "cleo", e.cluster)
			defer s.close(t)
			var cluster struct {
				State    string
				Engines  int
				Versions map[string]int `json:"engine_versions"`
			}
			w.gate.do(t, "cleo", &cluster, "cluster", "describe", e.cluster, "--ca", w.gate.ca, "--tls")
			var seen struct {
				Version string `json:"engine_version"`
			}
			w.gate.do(t, "cleo", &seen, "session", "describe", s.ID, "--ca", w.gate.ca, "--tls")
			if !strings.Contains(seen.Version, ".") || cluster.State != "active" || cluster.Engines != 1 || cluster.Versions[seen.Version] != 1 {
				t.Errorf("the session tells %q, the cluster %+v", seen.Version, cluster)
			}
		})
	}
}
