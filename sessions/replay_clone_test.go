package sessions_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/sessions"
)

// cloneRig is a Spark session with a view, its clone, and a clone of that; each has set
// something since.
func cloneRig(t *testing.T) (r *journalRig, first, second sessions.SparkID) {
	t.Helper()
	r = newJournalRig(t)
	origin := r.spark
	r.session.Catalog = "cat"
	r.begin(t, makes(statement("view", "make v"), "v"), "commit")
	clone := func(from sessions.SparkID) sessions.SparkID {
		to := sessions.SparkID(uuid.NewString())
		ticket, err := r.Clone(t.Context(), r.session.ID, from, to)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.store.Bind(t.Context(), r.session.ID, to); err != nil {
			t.Fatal(err)
		}
		r.Settle(ticket, true)
		r.spark = to
		r.begin(t, needs(statement("its own", "alter v"), "v"), "commit")
		return to
	}
	first = clone(origin)
	second = clone(first)
	r.spark = origin
	return r, first, second
}

// A clone is made as it was: what it has of its origin is done again in a Spark session
// that stands for that, which is cloned, and released.
func TestReplayOfClones(t *testing.T) {
	r, first, second := cloneRig(t)
	engine := newFakeSpark(t)
	replayer := r.replayer()
	replayer.Parallel = 1
	done, err := replayer.Replay(t.Context(), engine.cluster(), r.session)
	if err != nil {
		t.Fatal(err)
	}
	before := []string{"catalog cat", "hello", "make v"}
	made := []string{"clone", "release", "hello", "alter v"}
	for spark, want := range map[sessions.SparkID][]string{
		r.spark: before, first: slices.Concat(before, made), second: slices.Concat(before, made, made),
	} {
		if got := engine.line(spark); !slices.Equal(got, want) {
			t.Errorf("the engine was told %q, want %q", got, want)
		}
		if d := done[spark]; len(d.Lost) > 0 || d.ServerID != newEngine {
			t.Errorf("replayed %+v", d)
		}
	}
}

// An engine that cannot clone has nothing of what the clone was given, and that is said.
// On a shared engine the clone may be there by a replay that could not be recorded.
func TestReplayOfAClonedThatIsRefused(t *testing.T) {
	exists := status.Error(codes.Internal, "[INVALID_CLONE_SESSION_REQUEST.TARGET_SESSION_ID_ALREADY_EXISTS] Invalid session clone request.")
	for _, c := range []struct {
		name      string
		with      error
		isolation sessions.Isolation
		lost      bool
	}{
		{"cannot", status.Error(codes.Unimplemented, "no such method"), sessions.IsolateSession, true},
		{"is there, on an engine of its own", exists, sessions.IsolateSession, true},
		{"is there", exists, sessions.IsolateNone, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, first, _ := cloneRig(t)
			engine := newFakeSpark(t)
			engine.refuse, engine.with = "clone", c.with
			cluster := engine.cluster()
			cluster.Isolation = c.isolation
			done, err := r.replayer().Replay(t.Context(), cluster, r.session)
			if err != nil {
				t.Fatal(err)
			}
			notable := 0
			for _, l := range done[first].Lost {
				if l.Notable {
					notable++
				}
			}
			told := engine.line(first)
			if c.lost && (notable != 2 || slices.Contains(told, "alter v")) || !c.lost && (notable != 0 || !slices.Contains(told, "alter v")) {
				t.Errorf("lost %+v; the engine was told %q", done[first].Lost, told)
			}
			if done[first].ServerID != newEngine || !slices.Contains(told, "release") {
				t.Errorf("replayed %+v; the engine was told %q", done[first], told)
			}
		})
	}
	r, _, _ := cloneRig(t)
	engine := newFakeSpark(t)
	engine.refuse, engine.with = "clone", status.Error(codes.Unavailable, "going away")
	if _, err := r.replayer().Replay(t.Context(), engine.cluster(), r.session); status.Code(err) != codes.Unavailable {
		t.Errorf("an engine that goes away: %v", err)
	}
}
