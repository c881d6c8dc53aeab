package proxy

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// FuzzStamp gives any body to any method, in any pieces. What an engine then
// has as complete messages must be alice's, in a session bound to her; and how the
// body was cut must change neither verdict nor a byte.
func FuzzStamp(f *testing.F) {
	id := field(1, sparkA)
	for i, m := range [][]byte{
		nil, id,
		slices.Concat(id, userContext("mallory"), field(3, "plan")),
		slices.Concat(id, field(4, sparkB), field(6, "op"), reattach(true)),
		slices.Concat(field(4, sparkC), id), slices.Concat(id, id), slices.Concat(id, userContext("a"), userContext("b")),
		slices.Concat(id, []byte{0x8a, 0, 36}, []byte(sparkB)), slices.Concat(id, []byte{0x92, 0, 0}),
		slices.Concat(id, []byte("\xc5\xc5\xc5\xc5\x30\x30\x30\x30\x30")), slices.Concat(varint(1, 7), id),
		slices.Concat(id, []byte{0x1b, 0x1c}), slices.Concat(id, []byte{0x8a, 0x80, 0x80, 0x80, 0x10, 1, 'x'}),
	} {
		f.Add(grpcMessage(m), uint8(i), uint64(i), false)
		f.Add(slices.Concat(grpcMessage(m), grpcMessage(m)), uint8(3), uint64(i), true)
	}
	names := []string{"ExecutePlan", "Config", "CloneSession", "AddArtifacts", "ReattachExecute"}
	f.Fuzz(func(t *testing.T, body []byte, method uint8, seed uint64, later bool) {
		name := names[int(method)%len(names)]
		run := func(pieces [][]byte) *drive {
			d := newDrive(t, name)
			d.later = later
			d.foreign[sparkB] = sessions.ErrForeignSpark
			d.feed(true, pieces...)
			return d
		}
		whole := run([][]byte{body})
		r := rand.New(rand.NewPCG(seed, 0))
		for _, pieces := range [][][]byte{
			cutAt(body, func(int) bool { return true }),
			cutAt(body, func(int) bool { return r.IntN(5) == 0 }),
		} {
			d := run(pieces)
			if d.verdict != whole.verdict || d.complete != whole.complete || faultText(d.fault) != faultText(whole.fault) {
				t.Fatalf("%x: verdict %d %v, whole %d %v", pieces, d.verdict, d.fault, whole.verdict, whole.fault)
			}
			if d.complete && !bytes.Equal(d.out, whole.out) {
				t.Fatalf("%x: engine reads %x, whole %x", pieces, d.out, whole.out)
			}
			checkStamped(t, name, d, body)
		}
		checkStamped(t, name, whole, body)
	})
}

func faultText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// checkStamped reads what the engine has as protobuf does.
func checkStamped(t *testing.T, method string, d *drive, body []byte) {
	t.Helper()
	complete, more := d.messages()
	if d.complete && (more || len(complete) == 0) {
		t.Fatalf("the stream passed with %d messages and more=%v", len(complete), more)
	}
	if !d.complete && method != "AddArtifacts" && len(complete) > 0 {
		t.Fatalf("refused with %v, and the engine has the message", d.fault)
	}
	for _, m := range complete {
		n := len(m) - len(d.stamp.user.tail)
		if method == "CloneSession" {
			n -= newSessionLen
			checkClone(t, d, m)
		}
		was := body[relay.PrefixLen : relay.PrefixLen+n]
		body = body[relay.PrefixLen+n:]
		checkRequest(t, was, m)
	}
}

// checkRequest: of the client's message `was` the engine reads in m the same
// session and the user alice.
func checkRequest(t *testing.T, was, m []byte) {
	t.Helper()
	if !bytes.HasPrefix(m, was) {
		t.Fatalf("%x became %x", was, m)
	}
	client, err := guardedPart(t, was)
	if err != nil {
		return // a user_name that is not UTF-8, say: the engine refuses it
	}
	engine, err := guardedPart(t, m)
	if err != nil {
		t.Fatalf("%x: %v", m, err)
	}
	if _, ok := sessions.ParseSparkID(client.GetSessionId()); !ok || client.GetSessionId() == sparkB {
		t.Fatalf("session %q passed", client.GetSessionId())
	}
	if engine.GetSessionId() != client.GetSessionId() || engine.GetUserContext().GetUserId() != "alice" {
		t.Fatalf("engine reads session %q of %q", engine.GetSessionId(), engine.GetUserContext().GetUserId())
	}
}

// guardedPart parses fields 1 and 2 of m with the protobuf library: the others
// are taken out, since a real request could refuse what they hold.
func guardedPart(t *testing.T, m []byte) (*connect.ConfigRequest, error) {
	t.Helper()
	var part []byte
	for b := m; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatalf("%x: %v", m, protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			t.Fatalf("%x: %v", m, protowire.ParseError(size))
		}
		if number <= 2 {
			part = append(part, b[:n+size]...)
		}
		b = b[n+size:]
	}
	got := &connect.ConfigRequest{}
	return got, proto.Unmarshal(part, got)
}

// checkClone: the new session is one that was asked for.
func checkClone(t *testing.T, d *drive, m []byte) {
	t.Helper()
	var last string
	for b := m; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if number == fieldNewSession {
			v, _ := protowire.ConsumeString(b[n:])
			last = v
		}
		b = b[n+size:]
	}
	if len(d.asked) != 2 || d.asked[1] != sessions.SparkID(last) || last == sparkB {
		t.Fatalf("clones into %q, asked for %q", last, d.asked)
	}
}
