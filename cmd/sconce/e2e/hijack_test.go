package e2e

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// secretText is what the victim keeps in a temporary view of its Spark session.
const secretText = "S3CR3T-of-the-victim"

// victim is a Spark session with a view, and an operation whose result the
// engine still holds.
type victim struct {
	user, spark, operation string
	copy                   string // an id that its session may be cloned to
	caller                 *caller
}

// attack is one row of the table: a request by another user that aims at the
// victim's Spark session.
type attack struct {
	name   string
	method string
	// make builds the messages; own is a Spark session of the attacker's.
	make func(v *victim, own string) []wire
	// takes says on which engines the attack works when nobody stands before
	// the engine. Empty: it is no attack on either, only a request that must
	// not go through.
	takes []string
	// then reads the secret with what the first call has made; nil = nothing more.
	then func(v *victim) wire
	// kills: the attack works if it ends the victim's session, not if it reads.
	kills bool
	// code is what Sconce answers; unset where the engine itself refuses.
	code codes.Code
}

var readSecret = "SELECT * FROM secret"

// attacks are the known ways into another session, and every other method with the
// victim's session id.
var attacks = []attack{
	{name: "own user, the victim's session", method: "ExecutePlan", takes: []string{"Sail"}, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire { return []wire{request(v.spark, "eve").query(readSecret)} }},
	{name: "the victim's user and session", method: "ExecutePlan", takes: []string{"Sail", "Spark"}, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire { return []wire{request(v.spark, v.user).query(readSecret)} }},
	{name: "empty user, the victim's session", method: "ExecutePlan", takes: []string{"Sail"}, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire { return []wire{request(v.spark, "").query(readSecret)} }},
	{name: "no user context, the victim's session", method: "ExecutePlan", takes: []string{"Sail"}, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire { return []wire{wire(nil).text(1, v.spark).query(readSecret)} }},
	{name: "fields twice, the victim's last", method: "ExecutePlan", takes: []string{"Sail", "Spark"}, code: codes.InvalidArgument,
		make: func(v *victim, own string) []wire {
			return []wire{append(request(own, "eve").query(readSecret), request(v.spark, v.user)...)}
		}},
	{name: "over-long tags, the victim's last", method: "ExecutePlan", takes: []string{"Sail", "Spark"}, code: codes.InvalidArgument,
		make: func(v *victim, own string) []wire {
			return []wire{request(own, "eve").query(readSecret).long(1, wire(v.spark)).long(2, user(v.user))}
		}},
	{name: "over-long tags alone", method: "ExecutePlan", takes: []string{"Sail", "Spark"}, code: codes.InvalidArgument,
		make: func(v *victim, _ string) []wire {
			return []wire{wire(nil).long(1, wire(v.spark)).long(2, user(v.user)).query(readSecret)}
		}},
	{name: "field 1 as a number, then the victim's", method: "ExecutePlan", takes: []string{"Spark"}, code: codes.InvalidArgument,
		make: func(v *victim, _ string) []wire {
			return []wire{append(wire(nil).varint(1, 7), request(v.spark, v.user).query(readSecret)...)}
		}},
	{name: "user named twice in the own session", method: "ExecutePlan", code: codes.InvalidArgument,
		make: func(v *victim, own string) []wire {
			return []wire{wire(nil).text(1, own).message(2, user("eve").text(1, v.user)).query("SELECT 1")}
		}},
	{name: "user named twice, the victim's session", method: "ExecutePlan", takes: []string{"Sail", "Spark"}, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire {
			return []wire{wire(nil).text(1, v.spark).message(2, user("eve").text(1, v.user)).query(readSecret)}
		}},
	{name: "not a UUID", method: "ExecutePlan", code: codes.InvalidArgument,
		make: func(*victim, string) []wire { return []wire{request("../../victim", "eve").query("SELECT 1")} }},
	{name: "release the victim's session", method: "ReleaseSession", takes: []string{"Sail"}, kills: true, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire { return []wire{request(v.spark, "eve")} }},
	{name: "release as the victim", method: "ReleaseSession", takes: []string{"Sail", "Spark"}, kills: true, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire { return []wire{request(v.spark, v.user)} }},
	{name: "clone the victim's session", method: "CloneSession", takes: []string{"Spark"}, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire { return []wire{request(v.spark, v.user).text(4, v.copy)} },
		then: func(v *victim) wire { return request(v.copy, v.user).query(readSecret) }},
	{name: "clone into the victim's session", method: "CloneSession", code: codes.PermissionDenied,
		make: func(v *victim, own string) []wire { return []wire{request(own, "eve").text(4, v.spark)} }},
	{name: "take up the victim's result", method: "ReattachExecute", takes: []string{"Spark"}, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire { return []wire{request(v.spark, v.user).text(3, v.operation)} }},
	{name: "take up the victim's operation in the own session", method: "ReattachExecute",
		make: func(v *victim, own string) []wire { return []wire{request(own, "eve").text(3, v.operation)} }},
	{name: "second upload message names the victim", method: "AddArtifacts", code: codes.InvalidArgument,
		make: func(v *victim, own string) []wire { return []wire{request(own, "eve"), request(v.spark, v.user)} }},
	denied("AnalyzePlan", func(w wire) wire { return w.message(10, nil) }),
	denied("Config", func(w wire) wire { return w.message(3, wire(nil).message(7, nil)) }), // operation.get_all
	denied("AddArtifacts", nil),
	denied("ArtifactStatus", nil),
	denied("Interrupt", func(w wire) wire { return w.varint(4, 1) }), // all
	denied("ReleaseExecute", nil),
	denied("FetchErrorDetails", nil),
	denied("GetStatus", nil),
}

// denied is a plain call of a method with the victim's session and user.
func denied(method string, rest func(wire) wire) attack {
	return attack{name: method + " as the victim", method: method, code: codes.PermissionDenied,
		make: func(v *victim, _ string) []wire {
			w := request(v.spark, v.user)
			if rest != nil {
				w = rest(w)
			}
			return []wire{w}
		}}
}

// TestHijack tries the table on both engines: directly, where each attack must
// work on the engines that it is known to work on (or this test could not
// fail), and through Sconce, where none does. The victim and the attacker use
// different replicas: what one has bound, the other knows.
func TestHijack(t *testing.T) {
	w := needs(t)
	r := w.gate.replica(t)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			own := &caller{conn: dialEngine(t, e), secret: e.secret}
			eve := w.gate.open(t, "eve", e.cluster).through(r).caller(t)
			alice := w.gate.open(t, "alice", e.cluster).caller(t)
			for _, a := range attacks {
				t.Run(a.name, func(t *testing.T) {
					t.Run("direct", func(t *testing.T) {
						_, took := a.try(t, newVictim(t, "alice", own), own)
						if should := slices.Contains(a.takes, e.name); took != should {
							t.Errorf("works directly: %v, want %v: the table is out of date, or this test can't fail", took, should)
						}
					})
					t.Run("sconce", func(t *testing.T) {
						err, took := a.try(t, newVictim(t, "alice", alice), eve)
						if took {
							t.Errorf("the attack works through sconce")
						}
						if got := status.Code(err); err == nil || a.code != codes.OK && got != a.code {
							t.Errorf("answered %v, want %v: %v", got, a.code, err)
						}
					})
				})
			}
		})
	}
}

// newVictim makes a Spark session with the secret view, and runs a query on it
// that the engine keeps for a reattach.
func newVictim(t *testing.T, name string, c *caller) *victim {
	t.Helper()
	v := &victim{user: name, spark: newUUID(), operation: newUUID(), copy: newUUID(), caller: c}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	view := "CREATE TEMPORARY VIEW secret AS SELECT '" + secretText + "' AS s"
	if _, err := c.call(ctx, "ExecutePlan", request(v.spark, name).command(view)); err != nil {
		t.Fatalf("the victim's view: %v", err)
	}
	if answer, err := v.look(t); err != nil || !bytes.Contains(answer, []byte(secretText)) {
		t.Fatalf("the victim can't read its own view: %v", err)
	}
	return v
}

// look reads the view as its owner does, in a stream that may be taken up again.
func (v *victim) look(t *testing.T) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	plan := request(v.spark, v.user).query(readSecret)
	if v.operation != "" {
		plan = plan.operation(v.operation)
	}
	return v.caller.call(ctx, "ExecutePlan", plan)
}

// try makes the attack and says whether it worked: the attacker has read the
// secret, or the victim has lost its session.
func (a *attack) try(t *testing.T, v *victim, attacker *caller) (error, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	own := newUUID()
	// The attacker's own session exists, so that a refusal has one reason only.
	if _, err := attacker.call(ctx, "ExecutePlan", request(own, "eve").query("SELECT 1")); err != nil {
		t.Fatalf("the attacker's own session: %v", err)
	}
	answer, err := attacker.call(ctx, a.method, a.make(v, own)...)
	if err == nil && a.then != nil {
		answer, err = attacker.call(ctx, "ExecutePlan", a.then(v))
	}
	took := bytes.Contains(answer, []byte(secretText))
	v.operation = "" // used up
	seen, lost := v.look(t)
	alive := lost == nil && bytes.Contains(seen, []byte(secretText))
	if !alive && !a.kills {
		t.Errorf("the victim's session is gone: %v", lost)
	}
	return err, took || a.kills && !alive
}
