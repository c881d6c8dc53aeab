package proxy

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	sparkA = "0aa1b2c3-d4e5-4f60-8718-293a4b5c6d7e"
	sparkB = "1bb1b2c3-d4e5-4f60-8718-293a4b5c6d7e"
	sparkC = "2cc1b2c3-d4e5-4f60-8718-293a4b5c6d7e" // what NewID makes in these tests
)

// drive is a stamp with the two sides that it stands between: the relay, as
// relay.Call describes it, and the call it is part of. What reaches the engine is
// in out.
type drive struct {
	t       testing.TB
	stamp   stamp
	known   map[sessions.SparkID]bool  // bound from the start
	foreign map[sessions.SparkID]error // bind answers so
	later   bool                       // bind answers after the Hold, not at once
	op      error                      // operates answers so
	// serverIDs is what an engine that is not the first calls Spark sessions; nil =
	// it is the first.
	serverIDs map[sessions.SparkID]string

	asked    []sessions.SparkID
	heard    []string // of operates
	answer   func()   // the answer that is due
	resumed  int
	fault    error
	verdict  relay.Verdict
	kept     []byte // accounted for, waiting for a Pass
	out      []byte
	passed   bool // Pass was returned
	edits    relay.Edits
	maxWait  int // most bytes kept or held at once
	complete bool
}

func sparkMethodsFor(t testing.TB) map[string]*Method {
	t.Helper()
	methods, err := sparkMethods()
	if err != nil {
		t.Fatal(err)
	}
	return methods
}

// newDrive makes a stream of the method by "alice", who has bound nothing yet and
// to whom the registry gives whatever she asks for.
func newDrive(t testing.TB, method string) *drive {
	t.Helper()
	return newDriveOf(t, sparkMethodsFor(t)[sparkService+method], stampConfig{})
}

func newDriveOf(t testing.TB, m *Method, cfg stampConfig) *drive {
	t.Helper()
	return newCarriedDrive(t, m, cfg, nil)
}

func newCarriedDrive(t testing.TB, m *Method, cfg stampConfig, serverIDs map[sessions.SparkID]string) *drive {
	t.Helper()
	if m == nil {
		t.Fatal("no such method")
	}
	user, err := newStampUser("alice")
	if err != nil {
		t.Fatal(err)
	}
	cfg.NewID = func() (sessions.SparkID, error) { return sparkC, nil }
	d := &drive{t: t, known: map[sessions.SparkID]bool{}, foreign: map[sessions.SparkID]error{}, serverIDs: serverIDs}
	d.stamp.begin(&cfg, user, m, d)
	return d
}

func (d *drive) sparkBound(id sessions.SparkID) bool { return d.known[id] }

func (d *drive) sparkClone(_, to sessions.SparkID, answer func(error)) {
	if d.sparkBound(to) {
		answer(nil)
		return
	}
	d.sparkBind(to, answer)
}

func (d *drive) journals() bool                      { return true }
func (d *drive) carried() bool                       { return d.serverIDs != nil }
func (d *drive) serverID(id sessions.SparkID) string { return d.serverIDs[id] }

func (d *drive) record(_ *capture, answer func(error)) { answer(nil) }

func (d *drive) sparkBind(id sessions.SparkID, answer func(error)) {
	d.asked = append(d.asked, id)
	d.answer = func() { answer(d.foreign[id]) }
	if !d.later {
		d.answer()
		d.answer = nil
	}
}

func (d *drive) resume() { d.resumed++ }

func (d *drive) operates(id []byte) error {
	d.heard = append(d.heard, string(id))
	return d.op
}

func (d *drive) refuse(fault error) *relay.Reply {
	d.fault = fault
	return &relay.Reply{Status: "200"}
}

// feed gives the pieces to the stamp as a relay would. end: the client's side
// ends with the last piece.
func (d *drive) feed(end bool, pieces ...[]byte) {
	d.t.Helper()
	for i, p := range pieces {
		if d.verdict == relay.Cut {
			return
		}
		d.give(append([]byte(nil), p...), end && i == len(pieces)-1)
	}
	if len(pieces) == 0 && end {
		d.give(nil, true)
	}
}

func (d *drive) give(p []byte, end bool) {
	d.t.Helper()
	for {
		d.edits.Reset()
		d.verdict = d.stamp.Edit(p, end, &d.edits)
		used := d.edits.Used()
		if d.verdict == relay.Cut {
			if d.edits.Reply == nil {
				d.t.Fatal("Cut without a Reply")
			}
			return
		}
		if used > len(p) || used < len(p) && d.verdict != relay.Hold {
			d.t.Fatalf("verdict %d accounts for %d of %d bytes", d.verdict, used, len(p))
		}
		d.kept = d.edits.AppendTo(d.kept, p[:used])
		d.maxWait = max(d.maxWait, len(d.kept)+len(p)-used)
		if d.verdict == relay.Pass {
			d.passed, d.complete = true, end
			d.out, d.kept = append(d.out, d.kept...), nil
		}
		if d.verdict != relay.Hold {
			return
		}
		p = p[used:]
		d.answerHold(p, end)
	}
}

// answerHold lets the registry answer; before that, an Edit must change nothing.
func (d *drive) answerHold(p []byte, end bool) {
	d.t.Helper()
	if d.answer == nil {
		d.t.Fatal("Hold, and the registry was not asked")
	}
	d.edits.Reset()
	if v := d.stamp.Edit(p, end, &d.edits); v != relay.Hold || d.edits.Used() != 0 {
		d.t.Fatalf("Edit before the answer: verdict %d, %d bytes used", v, d.edits.Used())
	}
	was := d.resumed
	d.answer()
	d.answer = nil
	if d.resumed != was+1 {
		d.t.Fatalf("resumed %d times", d.resumed-was)
	}
}

// passes fails the test unless the whole stream went on.
func (d *drive) passes() {
	d.t.Helper()
	if d.fault != nil || !d.complete {
		d.t.Fatalf("the stream did not pass: verdict %d, %v", d.verdict, d.fault)
	}
}

// messages takes apart what reached the engine: complete messages, and whether
// more bytes came after them.
func (d *drive) messages() (complete [][]byte, more bool) {
	b := d.out
	for len(b) >= relay.PrefixLen {
		n := int(binary.BigEndian.Uint32(b[1:]))
		if b[0] != 0 {
			d.t.Fatalf("flag %d reached the engine", b[0])
		}
		if len(b) < relay.PrefixLen+n {
			return complete, true
		}
		complete, b = append(complete, b[relay.PrefixLen:relay.PrefixLen+n]), b[relay.PrefixLen+n:]
	}
	return complete, len(b) > 0
}

// cutting is a way to cut a body into pieces.
type cutting struct {
	name string
	cut  func(b []byte) [][]byte
}

// cuttings are the body whole, in single bytes, at each of its places, and a few
// at random.
func cuttings(n int) []cutting {
	cs := []cutting{
		{"whole", func(b []byte) [][]byte { return [][]byte{b} }},
		{"single bytes", func(b []byte) [][]byte { return cutAt(b, func(int) bool { return true }) }},
	}
	for at := range n + 1 {
		cs = append(cs, cutting{fmt.Sprintf("at %d", at), func(b []byte) [][]byte { return [][]byte{b[:min(at, len(b))], b[min(at, len(b)):]} }})
	}
	for seed := range uint64(10) {
		cs = append(cs, cutting{fmt.Sprintf("random %d", seed), func(b []byte) [][]byte {
			r := rand.New(rand.NewPCG(seed, 0))
			return cutAt(b, func(int) bool { return r.IntN(6) == 0 })
		}})
	}
	return cs
}

func cutAt(b []byte, here func(int) bool) [][]byte {
	pieces, from := [][]byte{}, 0
	for i := range b {
		if here(i) {
			pieces, from = append(pieces, b[from:i]), i
		}
	}
	return append(pieces, b[from:])
}

func grpcMessage(m []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

func field(n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), v)
}

func varint(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

// userContext is a user_context as a client writes it.
func userContext(id string) []byte { return field(2, string(field(1, id))) }

// reattach is one of ExecutePlan's request_options.
func reattach(yes bool) []byte {
	return field(5, string(field(1, string(varint(1, map[bool]uint64{true: 1}[yes])))))
}
