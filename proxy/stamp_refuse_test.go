package proxy

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/protobuf/encoding/protowire"
)

// badBody is a body that must be refused, and what the engine may have of it.
type badBody struct {
	name, method string // method "" is Config
	body         []byte
	want         error
	messages     int  // complete messages that the engine may see
	begun        bool // the engine may see the beginning of one
}

func (r badBody) check(t *testing.T, cfg stampConfig) {
	t.Helper()
	method := r.method
	if method == "" {
		method = "Config"
	}
	for _, c := range cuttings(len(r.body)) {
		for _, apart := range []bool{false, true} {
			for _, later := range []bool{false, true} {
				d := newDriveOf(t, sparkMethodsFor(t)[sparkService+method], cfg)
				d.later = later
				d.foreign[sparkB] = sessions.ErrForeignSpark
				d.feed(!apart, c.cut(r.body)...)
				if apart && d.verdict != relay.Cut {
					d.feed(true)
				}
				r.judge(t, c.name, d)
			}
		}
	}
}

func (r badBody) judge(t *testing.T, cut string, d *drive) {
	t.Helper()
	if d.verdict != relay.Cut || !errors.Is(d.fault, r.want) {
		t.Fatalf("%s: verdict %d, fault %v, want %v", cut, d.verdict, d.fault, r.want)
	}
	complete, more := d.messages()
	if len(complete) > r.messages || more && !r.begun {
		t.Fatalf("%s: the engine saw %d messages and more=%v: %x", cut, len(complete), more, d.out)
	}
	d.edits.Reset()
	if v := d.stamp.Edit([]byte("more"), false, &d.edits); v != relay.Cut {
		t.Fatalf("%s: verdict %d after Cut", cut, v)
	}
}

func prefixed(flag byte, length uint32, m string) []byte {
	b := grpcMessage(nil)
	b[0], b[1], b[2], b[3], b[4] = flag, byte(length>>24), byte(length>>16), byte(length>>8), byte(length)
	return append(b, m...)
}

// Rows 28 to 36 of the table of bad inputs: none of these may run.
func TestStampRefuses(t *testing.T) {
	id := field(1, sparkA)
	tests := []badBody{
		// 28: lengths
		{name: "prefix of 4 GiB", body: prefixed(0, 1<<32-1, "abc"), want: errTooLarge},
		{name: "prefix past protobuf's own bound", body: prefixed(0, 1<<31, "abc"), want: errTooLarge},
		{name: "prefix that the stamp takes past the bound", body: prefixed(0, 1<<31-1, "abc"), want: errTooLarge},
		{name: "prefix one byte over the cap", body: prefixed(0, 129<<20+1, "abc"), want: errTooLarge},
		// 29: framing
		{name: "prefix shorter than the data", body: slices.Concat(grpcMessage(id), []byte("x")), want: errExtraMessage, begun: true},
		{name: "three byte prefix", body: []byte{0, 0, 0}, want: errFraming},
		{name: "flag 255", body: prefixed(255, 3, "abc"), want: errFraming},
		{name: "flag 2", body: prefixed(2, 0, ""), want: errFraming},
		// 30: compression
		{name: "flag 1", body: prefixed(1, 3, "abc"), want: errCompressed},
		{name: "flag 1, empty", body: prefixed(1, 0, ""), want: errCompressed},
		// 31: form of session_id
		{name: "session_id not a UUID", body: grpcMessage(field(1, "x")), want: errSparkSession},
		{name: "session_id 1-1-1-1-1", body: grpcMessage(field(1, "1-1-1-1-1")), want: errSparkSession},
		{name: "session_id in upper case", body: grpcMessage(field(1, strings.ToUpper(sparkA))), want: errSparkSession},
		{name: "session_id is a path", body: grpcMessage(field(1, "../../x")), want: errSparkSession},
		{name: "session_id is a path as long as a UUID", body: grpcMessage(field(1, strings.Repeat("../", 12))), want: errSparkSession},
		{name: "session_id in braces", body: grpcMessage(field(1, "{"+sparkA+"}")), want: errSparkSession},
		{name: "session_id with a line end", body: grpcMessage(field(1, sparkA+"\n")), want: errSparkSession},
		{name: "session_id without hyphens", body: grpcMessage(field(1, strings.ReplaceAll(sparkA, "-", "")+"0000")), want: errSparkSession},
		{name: "session_id of 300 bytes", body: grpcMessage(field(1, strings.Repeat("a", 300))), want: errSparkSession},
		// 32: twice
		{name: "session_id twice", body: grpcMessage(slices.Concat(id, field(1, sparkB))), want: errMalformed, begun: true},
		{name: "session_id twice, the same", body: grpcMessage(slices.Concat(id, id)), want: errMalformed, begun: true},
		{name: "user_context twice", body: grpcMessage(slices.Concat(id, userContext("a"), userContext("b"))), want: errMalformed, begun: true},
		{name: "user_id twice", body: grpcMessage(slices.Concat(id, field(2, string(slices.Concat(field(1, "a"), field(1, "b")))))), want: errMalformed, begun: true},
		// 33: encodings
		{name: "over-long tag of session_id", body: grpcMessage(slices.Concat([]byte{0x8a, 0, 36}, []byte(sparkA))), want: errMalformed},
		{name: "over-long tag of a second session_id", body: grpcMessage(slices.Concat(id, []byte{0x8a, 0, 36}, []byte(sparkB))), want: errMalformed, begun: true},
		{name: "over-long tag of user_context", body: grpcMessage(slices.Concat(id, []byte{0x92, 0, 0})), want: errMalformed, begun: true},
		{name: "session_id as varint, then the real one", body: grpcMessage(slices.Concat(varint(1, 7), id)), want: errMalformed},
		{name: "user_context as varint", body: grpcMessage(slices.Concat(id, varint(2, 7))), want: errMalformed, begun: true},
		{name: "session_id as a group", body: grpcMessage([]byte{0x0b, 0x0c}), want: errMalformed},
		{name: "a group", body: grpcMessage(slices.Concat(id, []byte{0x1b, 0x1c})), want: errMalformed, begun: true},
		{name: "truncated varint", body: grpcMessage(slices.Concat(id, []byte{0x18, 0x80})), want: errMalformed, begun: true},
		{name: "field longer than the message", body: grpcMessage(slices.Concat(id, []byte{0x1a, 9, 'x'})), want: errMalformed, begun: true},
		{name: "a tag whose field number is above the largest", body: grpcMessage(slices.Concat(id, []byte("\xc5\xc5\xc5\xc5\x30\x30\x30\x30\x30"))), want: errMalformed, begun: true},
		{name: "user_id not UTF-8", body: grpcMessage(slices.Concat(id, userContext("\xff"))), want: errMalformed, begun: true},
		// 34: missing and foreign
		{name: "session_id missing", body: grpcMessage(field(3, "plan")), want: errSparkSession},
		{name: "empty message", body: grpcMessage(nil), want: errSparkSession},
		{name: "session_id empty", body: grpcMessage(field(1, "")), want: errSparkSession},
		{name: "session_id of another owner", body: grpcMessage(field(1, sparkB)), want: sessions.ErrForeignSpark},
		// 35: an upload that changes its session
		{name: "second message of another session", method: "AddArtifacts",
			body: slices.Concat(grpcMessage(id), grpcMessage(field(1, sparkC)), grpcMessage(id)), want: errSparkChanged, messages: 1, begun: true},
		{name: "second message without session", method: "AddArtifacts",
			body: slices.Concat(grpcMessage(id), grpcMessage(field(5, "chunk"))), want: errSparkSession, messages: 1, begun: true},
		{name: "second message compressed", method: "AddArtifacts",
			body: slices.Concat(grpcMessage(id), prefixed(1, 3, "abc")), want: errCompressed, messages: 1},
		{name: "second message cut off", method: "AddArtifacts",
			body: slices.Concat(grpcMessage(id), grpcMessage(id)[:20]), want: errMalformed, messages: 1, begun: true},
		{name: "second prefix cut off", method: "AddArtifacts",
			body: slices.Concat(grpcMessage(id), []byte{0, 0}), want: errFraming, messages: 1},
		// 36: nothing
		{name: "no message", body: nil, want: errNoMessage},
		{name: "no message, upload", method: "AddArtifacts", body: nil, want: errNoMessage},
		{name: "message cut off", body: grpcMessage(slices.Concat(id, field(3, "plan")))[:45], want: errMalformed, begun: true},
		{name: "message cut off inside session_id", body: grpcMessage(id)[:20], want: errMalformed},
		{name: "two messages", body: slices.Concat(grpcMessage(id), grpcMessage(id)), want: errExtraMessage, begun: true},
		{name: "two messages, ExecutePlan", method: "ExecutePlan", body: slices.Concat(grpcMessage(id), grpcMessage(id)), want: errExtraMessage, begun: true},
		// beyond the table
		{name: "operation_id twice", method: "ExecutePlan", body: grpcMessage(slices.Concat(id, field(6, "a"), field(6, "b"))), want: errMalformed, begun: true},
		{name: "new_session_id not a UUID", method: "CloneSession", body: grpcMessage(slices.Concat(id, field(4, "x"))), want: errSparkSession, begun: true},
		{name: "new_session_id of 300 bytes", method: "CloneSession", body: grpcMessage(slices.Concat(id, field(4, strings.Repeat("a", 300)))), want: errSparkSession, begun: true},
		{name: "new_session_id empty", method: "CloneSession", body: grpcMessage(slices.Concat(id, field(4, ""))), want: errSparkSession, begun: true},
		{name: "new_session_id twice", method: "CloneSession", body: grpcMessage(slices.Concat(id, field(4, sparkC), field(4, sparkB))), want: errMalformed, begun: true},
		{name: "new_session_id of another owner", method: "CloneSession", body: grpcMessage(slices.Concat(id, field(4, sparkB))), want: sessions.ErrForeignSpark, begun: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, stampConfig{MaxMessage: 129 << 20}) })
	}
}

// Without a cap of ours, protobuf's own bound holds, stamp included.
func TestStampRefusesWhatNoParserTakes(t *testing.T) {
	const most = relay.MaxMessage - uint32(len("\x12\x07\x0a\x05alice"))
	for length, ok := range map[uint32]bool{most: true, most + 1: false, 1 << 31: false, 1<<32 - 1: false} {
		d := newDrive(t, "Config")
		d.feed(false, prefixed(0, length, "\x0a"))
		if ok != (d.verdict == relay.Wait) || !ok && !errors.Is(d.fault, errTooLarge) {
			t.Errorf("length %d: verdict %d, fault %v", length, d.verdict, d.fault)
		}
	}
}

func TestStampRefusesALateSession(t *testing.T) {
	const within = 100
	plan := func(n int) []byte { return field(3, strings.Repeat("p", n)) }
	id := field(1, sparkA)
	at := within - len(id) - 2 // so that session_id ends with the last byte of within
	late := badBody{name: "late", body: grpcMessage(slices.Concat(plan(at+1), id)), want: errSparkSession}
	late.check(t, stampConfig{SessionWithin: within})
	inTime := grpcMessage(slices.Concat(plan(at), id, plan(3)))
	for _, c := range cuttings(len(inTime)) {
		d := newDriveOf(t, sparkMethodsFor(t)[sparkService+"Config"], stampConfig{SessionWithin: within})
		d.feed(true, c.cut(inTime)...)
		d.passes()
	}
}

// A flood without session_id must be refused at the bound, not at its end.
func TestStampHoldsNoMoreThanItsBound(t *testing.T) {
	d := newDrive(t, "ExecutePlan")
	piece := bytes.Repeat([]byte{'p'}, 16<<10)
	d.feed(false, prefixed(0, 1<<30, ""), protowire.AppendVarint([]byte{0x1a}, 1<<29))
	for range 1 << 30 / len(piece) {
		if d.feed(false, piece); d.verdict == relay.Cut {
			break
		}
	}
	if d.verdict != relay.Cut || d.maxWait > defaultSessionWithin+relay.PrefixLen {
		t.Errorf("verdict %d with %d bytes held", d.verdict, d.maxWait)
	}
}

// What is found at the end of a large plan still ends the stream before the
// engine has the message.
func TestStampRefusesAfterALargePlan(t *testing.T) {
	d := newDrive(t, "ExecutePlan")
	plan := strings.Repeat("p", 8<<20)
	body := grpcMessage(slices.Concat(field(1, sparkA), field(3, plan), field(1, sparkB)))
	for len(body) > 0 && d.verdict != relay.Cut {
		n := min(16<<10, len(body))
		d.feed(n == len(body), body[:n])
		body = body[n:]
	}
	if d.verdict != relay.Cut || !errors.Is(d.fault, errMalformed) {
		t.Fatalf("verdict %d, fault %v", d.verdict, d.fault)
	}
	if complete, _ := d.messages(); len(complete) > 0 || len(d.out) < len(plan) {
		t.Errorf("the engine has %d messages, %d bytes", len(complete), len(d.out))
	}
}

func TestStampAsksTheCallAboutTheOperation(t *testing.T) {
	d := newDrive(t, "ReattachExecute")
	d.op = errors.New("never started")
	d.feed(true, grpcMessage(slices.Concat(field(1, sparkA), field(3, "op"))))
	if d.verdict != relay.Cut || !errors.Is(d.fault, d.op) || len(d.out) > 0 {
		t.Errorf("verdict %d, fault %v, %d bytes out", d.verdict, d.fault, len(d.out))
	}
}

func TestStampSaysWhenNoIDCanBeMade(t *testing.T) {
	d := newDrive(t, "CloneSession")
	broken := errors.New("no randomness")
	d.stamp.cfg.NewID = func() (sessions.SparkID, error) { return "", broken }
	d.feed(true, grpcMessage(field(1, sparkA)))
	if d.verdict != relay.Cut || !errors.Is(d.fault, broken) {
		t.Errorf("verdict %d, fault %v", d.verdict, d.fault)
	}
}

// Faults are read by people: each says what is wrong, and none quotes the
// request.
func TestStampFaultsSayWhatIsWrong(t *testing.T) {
	id := field(1, sparkA)
	for want, m := range map[string][]byte{
		"message is malformed: field 1 comes twice":                                              slices.Concat(id, id),
		"message is malformed: field 1 has the wrong type":                                       varint(1, 1),
		"message is malformed: field 1 is not UTF-8":                                             field(1, "\xff"),
		"message is malformed: one of its fields is longer than the message":                     {0x1a, 9},
		"message is malformed: one of its tags is not encoded as protobuf libraries do":          {0x9a, 0x00, 0},
		"message is malformed: one of its fields is not encoded as protobuf":                     {0x18, 0x80},
		"session_id is not acceptable: and this request has none":                                nil,
		"session_id is not acceptable: and this one is not":                                      field(1, "secret"),
		"session_id is not acceptable: and none came in the first 65536 bytes, where it belongs": field(3, strings.Repeat("p", 1<<17)),
	} {
		d := newDrive(t, "Config")
		d.feed(true, grpcMessage(m))
		if d.fault == nil || d.fault.Error() != want {
			t.Errorf("fault %v, want %s", d.fault, want)
		}
	}
}
