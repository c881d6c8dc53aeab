package control_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/sessions"
)

// Everybody sees clusters, and no address; operators drain them, and then creates are
// refused by the cluster's state.
func TestClusterCalls(t *testing.T) {
	a := start(t)
	ann, op := a.as(t, "ann", "acme", true), a.as(t, "x", "ops", true)
	list, err := a.clusters.ListClusters(ann, &sconcev1.ListClustersRequest{})
	if err != nil || len(list.GetClusters()) != 1 {
		t.Fatal(list, err)
	}
	if c := list.GetClusters()[0]; c.GetName() != "c" || c.GetKind() != sconcev1.Cluster_ADDRESS || c.GetState() != sconcev1.Cluster_ACTIVE ||
		c.GetIsolation() != sconcev1.Cluster_ISOLATION_UNSPECIFIED || c.GetDrainTime() != nil || strings.Contains(c.String(), "127.0.0.1") {
		t.Errorf("listed %v", c)
	}
	if c := list.GetClusters()[0]; c.GetEngines() != 1 || len(c.GetEngineVersions()) != 1 || c.GetEngineVersions()["4.1.0"] != 1 {
		t.Errorf("its engine is told as %v", c)
	}
	_, denied := a.clusters.DrainCluster(ann, &sconcev1.DrainClusterRequest{Name: "c"})
	_, none := a.clusters.DrainCluster(ann, &sconcev1.DrainClusterRequest{Name: "none"})
	wantRefusal(t, "a drain by an admin", denied, codes.PermissionDenied)
	wantRefusal(t, "a drain of none by an admin", none, codes.PermissionDenied)
	_, unknown := a.clusters.DescribeCluster(ann, &sconcev1.DescribeClusterRequest{Name: "none"})
	wantRefusal(t, "none", unknown, codes.InvalidArgument)
	_, unnamed := a.clusters.DrainCluster(op, &sconcev1.DrainClusterRequest{})
	wantRefusal(t, "a drain without a name", unnamed, codes.InvalidArgument)

	drained, err := a.clusters.DrainCluster(op, &sconcev1.DrainClusterRequest{Name: "c", Reason: "new disks"})
	if c := drained.GetCluster(); err != nil || c.GetState() != sconcev1.Cluster_DRAINING || c.GetReason() != "new disks" || time.Since(c.GetDrainTime().AsTime()) > time.Minute {
		t.Errorf("drained %v, %v", drained, err)
	}
	_, create := a.CreateSession(ann, &sconcev1.CreateSessionRequest{Name: "n"})
	wantRefusal(t, "a create", create, codes.FailedPrecondition)
	if create == nil || !strings.Contains(create.Error(), "cluster c is draining (new disks)") {
		t.Errorf("a create: %v", create)
	}
	resumed, err := a.clusters.ResumeCluster(op, &sconcev1.ResumeClusterRequest{Name: "c"})
	if err != nil || resumed.GetCluster().GetState() != sconcev1.Cluster_ACTIVE {
		t.Errorf("resumed %v, %v", resumed, err)
	}
	made, err := a.CreateSession(ann, &sconcev1.CreateSessionRequest{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}

	// And a session tells of the operations that its clients left.
	id := sessions.ID(made.GetSession().GetId())
	if _, err := a.memory.Touch(t.Context(), []sessions.Use{{ID: id, Running: []string{"1", "2"}}}); err != nil {
		t.Fatal(err)
	}
	seen, err := a.DescribeSession(ann, &sconcev1.DescribeSessionRequest{SessionId: string(id)})
	if err != nil || seen.GetSession().GetDetachedOperations() != 2 || seen.GetSession().GetEngineVersion() != "4.1.0" {
		t.Errorf("described %v, %v", seen, err)
	}
	var audited []string
	for _, e := range a.trail.entries {
		if e.Cluster != "" {
			audited = append(audited, string(e.Action)+" "+e.Cluster)
		}
	}
	if !slices.Equal(audited, []string{"cluster.drain c", "cluster.resume c"}) {
		t.Errorf("the trail has %v", audited)
	}
}

// The same by JSON.
func TestClustersAsJSON(t *testing.T) {
	w := startWeb(t, dresses[0])
	if got := w.call("GET", "/v1/clusters", ""); got.StatusCode != 200 || !strings.Contains(got.text, `"ACTIVE"`) || strings.Contains(got.text, "127.0.0.1") {
		t.Errorf("%s %s", got.Status, got.text)
	}
	if got := w.call("POST", "/v1/clusters/c:drain", "{}"); got.StatusCode != 403 || got.reason() != "NOT_ALLOWED" {
		t.Errorf("%s %s", got.Status, got.text)
	}
	w.token = w.control(t, "x", "ops", true)
	if got := w.call("POST", "/v1/clusters/c:drain", `{"reason": "new disks"}`); got.text1("cluster", "state") != "DRAINING" {
		t.Errorf("%s %s", got.Status, got.text)
	}
	if got := w.call("POST", "/v1/sessions", `{"name": "n"}`); got.StatusCode != 400 || got.reason() != "CLUSTER_DRAINING" {
		t.Errorf("%s %s", got.Status, got.text)
	}
	if got := w.call("POST", "/v1/clusters/c:resume", ""); got.text1("cluster", "state") != "ACTIVE" {
		t.Errorf("%s %s", got.Status, got.text)
	}
	if got := w.call("GET", "/v1/clusters/none", ""); got.StatusCode != 400 || got.reason() != "CLUSTER_UNKNOWN" {
		t.Errorf("%s %s", got.Status, got.text)
	}
}
