package e2e

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What each method needs beside the ids of a session, so that nothing else is wrong
// with the request.
var methods = map[string]func(v *victim, w wire) wire{
	"ExecutePlan":       func(_ *victim, w wire) wire { return w.query(readSecret) },
	"AnalyzePlan":       func(_ *victim, w wire) wire { return w.message(10, nil) },                      // spark_version
	"Config":            func(_ *victim, w wire) wire { return w.message(3, wire(nil).message(7, nil)) }, // operation.get_all
	"AddArtifacts":      func(_ *victim, w wire) wire { return w.message(3, nil) },                       // batch
	"ArtifactStatus":    func(_ *victim, w wire) wire { return w },
	"Interrupt":         func(_ *victim, w wire) wire { return w.varint(4, 1) }, // all
	"ReattachExecute":   func(v *victim, w wire) wire { return w.text(3, v.operation) },
	"ReleaseExecute":    func(v *victim, w wire) wire { return w.text(3, v.operation).message(5, nil) }, // release_all
	"ReleaseSession":    func(_ *victim, w wire) wire { return w },
	"FetchErrorDetails": func(_ *victim, w wire) wire { return w.text(3, newUUID()) },
	"CloneSession":      func(v *victim, w wire) wire { return w.text(4, v.copy) },
	"GetStatus":         func(_ *victim, w wire) wire { return w },
}

// The ways to name the victim's session in a request of any method. TestHijack
// proves that the engines follow each of them.
var forms = []struct {
	name  string
	code  codes.Code
	write func(v *victim, own string, rest func(wire) wire) wire
}{
	{"as the victim", codes.PermissionDenied, func(v *victim, _ string, rest func(wire) wire) wire {
		return rest(request(v.spark, v.user))
	}},
	{"as herself", codes.PermissionDenied, func(v *victim, _ string, rest func(wire) wire) wire {
		return rest(request(v.spark, "eve"))
	}},
	{"without a user", codes.PermissionDenied, func(v *victim, _ string, rest func(wire) wire) wire {
		return rest(wire(nil).text(1, v.spark))
	}},
	{"ids behind the rest", codes.PermissionDenied, func(v *victim, _ string, rest func(wire) wire) wire {
		return append(rest(nil), request(v.spark, v.user)...)
	}},
	{"fields twice, the victim's last", codes.InvalidArgument, func(v *victim, own string, rest func(wire) wire) wire {
		return append(rest(request(own, "eve")), request(v.spark, v.user)...)
	}},
	{"fields twice, the victim's first", codes.PermissionDenied, func(v *victim, own string, rest func(wire) wire) wire {
		return append(rest(request(v.spark, v.user)), request(own, "eve")...)
	}},
	{"over-long tags alone", codes.InvalidArgument, func(v *victim, _ string, rest func(wire) wire) wire {
		return rest(wire(nil).long(1, wire(v.spark)).long(2, user(v.user)))
	}},
	{"over-long tags, behind", codes.InvalidArgument, func(v *victim, own string, rest func(wire) wire) wire {
		return rest(request(own, "eve")).long(1, wire(v.spark)).long(2, user(v.user))
	}},
	{"a number, then the victim's", codes.InvalidArgument, func(v *victim, _ string, rest func(wire) wire) wire {
		return rest(append(wire(nil).varint(1, 7), request(v.spark, v.user)...))
	}},
}

// TestHijackForms: every method in every form, on both engines, by two replicas that
// have not seen each other's sessions: refused, without a word of the victim's in the
// answer, and the victim has lost nothing.
func TestHijackForms(t *testing.T) {
	w := needs(t)
	r := w.gate.replica(t)
	for _, e := range []*engine{w.sail, w.spark} {
		for name, at := range map[string]struct{ alice, eve *gateway }{"one way": {w.gate, r}, "the other way": {r, w.gate}} {
			t.Run(e.name+" "+name, func(t *testing.T) {
				alice := w.gate.open(t, "alice", e.cluster).through(at.alice).caller(t)
				eve := w.gate.open(t, "eve", e.cluster).through(at.eve).caller(t)
				v, own := newVictim(t, "alice", alice), newUUID()
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				if _, err := eve.call(ctx, "ExecutePlan", request(own, "eve").query("SELECT 1")); err != nil {
					t.Fatalf("the attacker's own session: %v", err)
				}
				for method, rest := range methods {
					for _, form := range forms {
						answer, err := eve.call(ctx, method, form.write(v, own, func(w wire) wire { return rest(v, w) }))
						if got := status.Code(err); got != form.code {
							t.Errorf("%s %s: %v, want %v: %v", method, form.name, got, form.code, err)
						}
						if len(answer) > 0 || bytes.Contains([]byte(status.Convert(err).Message()), []byte(secretText)) {
							t.Errorf("%s %s: %d bytes of answer, %v", method, form.name, len(answer), err)
						}
					}
				}
				v.operation = "" // the engine may have let go of it by itself
				if seen, err := v.look(t); err != nil || !bytes.Contains(seen, []byte(secretText)) {
					t.Errorf("the victim's session is gone: %v", err)
				}
				// That it was the ids, and nothing else, which was refused.
				if _, err := eve.call(ctx, "Config", methods["Config"](v, request(own, "eve"))); err != nil {
					t.Errorf("the attacker's own configuration: %v", err)
				}
			})
		}
	}
}

// TestHijackRace: who names a new Spark session first has it, and the other one has
// nothing, also where both come at once to different replicas.
func TestHijackRace(t *testing.T) {
	w := needs(t)
	r := w.gate.replica(t)
	callers := []*caller{
		w.gate.open(t, "alice", w.sail.cluster).caller(t),
		w.gate.open(t, "eve", w.sail.cluster).through(r).caller(t),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range 20 {
		spark := newUUID()
		var both sync.WaitGroup
		got := make([]codes.Code, len(callers))
		for i, c := range callers {
			both.Go(func() {
				_, err := c.call(ctx, "ExecutePlan", request(spark, "any").query("SELECT 1"))
				got[i] = status.Code(err)
			})
		}
		both.Wait()
		if !(got[0] == codes.OK && got[1] == codes.PermissionDenied || got[0] == codes.PermissionDenied && got[1] == codes.OK) {
			t.Errorf("both named a new session: %v", got)
		}
	}
}
