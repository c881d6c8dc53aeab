package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// What a session chose is kept as it was, and through every change of its state.
func testCreateWithOptions(t *testing.T, s *suite) {
	asked := s.session(t, "ann", "a")
	asked.Catalog, asked.Database = "lake", "shop.eu"
	asked.Conf = sessions.NewPairs(map[string]string{"spark.sql.shuffle.partitions": "3", "odd": "a=b, \"c\"\n{}"})
	asked.Labels = sessions.NewPairs(map[string]string{"team": "physics", "empty": ""})
	asked.IdleTimeout, asked.MaxAge = 90*time.Second, 36*time.Hour
	want := asked
	want.Revision, want.ChangedAt = 1, asked.CreatedAt
	made, err := s.Create(t.Context(), asked, "")
	must(t, err)
	wantSession(t, made, want)
	s.step(t, s.step(t, made, sessions.Active), sessions.Closed)
	found, err := s.Get(t.Context(), made.ID)
	must(t, err)
	after := found[0]
	after.State, after.Reason, after.Generation, after.Revision = want.State, want.Reason, want.Generation, want.Revision
	after.ChangedAt, after.ClosedAt = want.ChangedAt, want.ClosedAt
	want.Conf = "" // nobody needs it any more, and it may be large
	wantSession(t, after, want)
}

// A closed session keeps labels that are small, and nothing of the ids of tokens that were
// revoked: it is closed to all.
func testCloseKeepsLittle(t *testing.T, s *suite) {
	for _, c := range []struct {
		size int
		kept bool
	}{{900, true}, {1100, false}} {
		asked := s.session(t, "ann", "")
		asked.Labels = sessions.NewPairs(map[string]string{"k": strings.Repeat("x", c.size)})
		made, err := s.Create(t.Context(), asked, "")
		must(t, err)
		made = s.step(t, made, sessions.Active)
		s.revoke(t, made.ID, s.token(t, made.ID, "").ID)
		must(t, s.SetStage(t.Context(), made.ID, "waiting", "it did not start"))
		closed := s.step(t, made, sessions.Closed)
		if kept := closed.Labels == asked.Labels; kept != c.kept || !kept && closed.Labels != "" {
			t.Errorf("labels of %d bytes: %d are kept", c.size, len(closed.Labels))
		}
		if closed.Revoked != "" || closed.WakeFailure != "" || closed.Stage != "" {
			t.Errorf("kept are %+v", closed)
		}
	}
}

func testListByLabels(t *testing.T, s *suite) {
	var ids []sessions.ID
	for _, labels := range []map[string]string{nil, {"team": "physics"}, {"team": "physics", "stage": "test"}, {"team": "arts"}} {
		asked := s.session(t, "ann", "")
		asked.Labels = sessions.NewPairs(labels)
		made, err := s.Create(t.Context(), asked, "")
		must(t, err)
		ids = append(ids, made.ID)
	}
	for _, test := range []struct {
		labels map[string]string
		want   []sessions.ID
	}{
		{nil, []sessions.ID{ids[3], ids[2], ids[1], ids[0]}},
		{map[string]string{"team": "physics"}, []sessions.ID{ids[2], ids[1]}},
		{map[string]string{"team": "physics", "stage": "test"}, []sessions.ID{ids[2]}},
		{map[string]string{"stage": ""}, nil},
	} {
		for limit := 1; limit <= 4; limit++ {
			if got := s.listAll(t, sessions.Query{Org: s.org, Owner: "ann", Labels: test.labels, Limit: limit}); !slices.Equal(got, test.want) {
				t.Errorf("labels %v, limit %d: listed %v, want %v", test.labels, limit, got, test.want)
			}
		}
	}
	named, err := s.List(t.Context(), sessions.Query{Org: s.org, Owner: "ann", Name: string(ids[3]), Labels: map[string]string{"team": "physics"}, Limit: 1})
	must(t, err)
	if len(named.Sessions) != 0 {
		t.Error("a name came without the label")
	}
}
