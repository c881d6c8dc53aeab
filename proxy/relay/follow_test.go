package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The schema of these tests has the shape of a Spark Connect request, which
// this package knows nothing of.
const (
	followSlotID  = 1
	followSlotOp  = 2
	followSlotYes = 3
)

func followSchemaFor(t testing.TB) *Schema {
	t.Helper()
	s, err := NewSchema(
		Field{Number: 1, Kind: FieldText, Slot: followSlotID},
		Field{Number: 2, Kind: FieldMessage, Fields: []Field{{Number: 1, Kind: FieldText}}},
		Field{Number: 5, Kind: FieldMessage, Repeated: true, Fields: []Field{
			{Number: 1, Kind: FieldMessage, Fields: []Field{{Number: 1, Kind: FieldVarint, Slot: followSlotYes}}},
		}},
		Field{Number: 6, Kind: FieldText, Slot: followSlotOp},
	)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pbMessage puts a prefix before m.
func pbMessage(flag byte, m []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(m)))
	return append(b, m...)
}

func pbBytes(n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), v)
}

func pbVarint(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

// followTrace follows the pieces and writes down every event.
func followTrace(f *Follower, pieces ...[]byte) []string {
	var out []string
	for _, p := range pieces {
		for {
			n, ev := f.Next(p)
			p = p[n:]
			if ev == EventNone {
				if len(p) > 0 {
					return append(out, "EventNone with bytes left")
				}
				break
			}
			out = append(out, followDescribe(f, ev))
			if ev == EventFault {
				return out
			}
		}
	}
	return append(out, fmt.Sprintf("body ends, between=%v", f.Between()))
}

func followDescribe(f *Follower, ev Event) string {
	switch ev {
	case EventMessage:
		return fmt.Sprintf("message flag %d length %d", f.Flag(), f.Length())
	case EventField:
		num, _ := f.Varint(f.Slot())
		text, ok := f.Text(f.Slot())
		if f.Slot() == followSlotYes {
			return fmt.Sprintf("at %d: slot %d = %d", f.Offset(), f.Slot(), num)
		}
		return fmt.Sprintf("at %d: slot %d = %q %v", f.Offset(), f.Slot(), text, ok)
	case EventEnd:
		return fmt.Sprintf("end at %d", f.Offset())
	case EventFault:
		return fmt.Sprintf("fault %v in field %d", f.Err(), f.FaultField())
	}
	return fmt.Sprintf("unknown event %d", ev)
}

func followTraceOf(t testing.TB, pieces ...[]byte) []string {
	t.Helper()
	var f Follower
	f.Start(followSchemaFor(t))
	return followTrace(&f, pieces...)
}

// followCut splits b at random places; empty pieces are among them.
func followCut(b []byte, r *rand.Rand) [][]byte {
	var pieces [][]byte
	for len(b) > 0 {
		n := min(r.IntN(9), len(b))
		if r.IntN(8) == 0 {
			n = r.IntN(len(b) + 1)
		}
		pieces, b = append(pieces, b[:n]), b[n:]
	}
	return pieces
}

func followSingle(b []byte) [][]byte {
	var pieces [][]byte
	for i := range b {
		pieces = append(pieces, b[i:i+1])
	}
	return pieces
}

const followID = "0aa1b2c3-d4e5-4f60-8718-293a4b5c6d7e"

func TestFollowerReportsWhatTheSchemaNames(t *testing.T) {
	yes := pbBytes(5, string(pbBytes(1, string(pbVarint(1, 1)))))
	m := slices.Concat(
		pbBytes(1, followID),
		pbBytes(2, string(slices.Concat(pbBytes(1, "alice"), pbBytes(2, "Alice")))),
		pbBytes(3, strings.Repeat("plan", 100)),
		pbVarint(4, 1<<63),
		protowire.AppendFixed32(protowire.AppendTag(nil, 9, protowire.Fixed32Type), 1),
		protowire.AppendFixed64(protowire.AppendTag(nil, 10, protowire.Fixed64Type), 1),
		yes,
		pbBytes(5, ""), yes,
		pbBytes(6, "op"),
		pbBytes(maxFieldNumber, "last"),
	)
	body := slices.Concat(pbMessage(0, m), pbMessage(0, nil), pbMessage(1, []byte{0xff, 0xff}), pbMessage(0, pbBytes(1, "é")))
	want := []string{
		fmt.Sprintf("message flag 0 length %d", len(m)),
		fmt.Sprintf("at 38: slot 1 = %q true", followID),
		"at 488: slot 3 = 1",
		"at 496: slot 3 = 1",
		`at 500: slot 2 = "op" true`,
		fmt.Sprintf("end at %d", len(m)),
		"message flag 0 length 0", "end at 0",
		"message flag 1 length 2", "end at 2",
		"message flag 0 length 4", `at 4: slot 1 = "é" true`, "end at 4",
		"body ends, between=true",
	}
	for name, pieces := range map[string][][]byte{"whole": {body}, "single bytes": followSingle(body)} {
		if got := followTraceOf(t, pieces...); !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", name, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

func TestFollowerWithoutSchemaFollowsPrefixes(t *testing.T) {
	var f Follower
	got := followTrace(&f, pbMessage(0, []byte("not protobuf")), pbMessage(0, []byte("x"))[:3])
	want := []string{"message flag 0 length 12", "end at 12", "body ends, between=false"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFollowerRefuses(t *testing.T) {
	id := pbBytes(1, followID)
	long := func(b ...byte) []byte { return b }
	tests := []struct {
		name string
		m    []byte
		want error
	}{
		{"the tag that protowire takes and Unmarshal does not", long(0xc5, 0xc5, 0xc5, 0xc5, 0x30, 0x30, 0x30, 0x30, 0x30), ErrFollowTag},
		{"over-long tag of field 1", slices.Concat(long(0x8a, 0x00, 1), []byte("x")), ErrFollowTag},
		{"over-long tag of field 2", slices.Concat(id, long(0x92, 0x00, 0)), ErrFollowTag},
		{"over-long tag of another field", slices.Concat(id, long(0x9a, 0x00, 0)), ErrFollowTag},
		{"tag past 32 bits that Java truncates to field 1", slices.Concat(id, long(0x8a, 0x80, 0x80, 0x80, 0x10, 0)), ErrFollowTag},
		{"ten byte tag that Java truncates to field 1", slices.Concat(id, long(0x8a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0)), ErrFollowTag},
		{"field number 0", long(0x02, 0x00), ErrFollowTag},
		{"zero byte", long(0x00), ErrFollowTag},
		{"group", long(0x1b, 0x1c), ErrFollowTag},
		{"end of a group", long(0x1c), ErrFollowTag},
		{"wire type 6", long(0x1e, 0), ErrFollowTag},
		{"wire type 7", long(0x1f, 0), ErrFollowTag},
		{"field 1 as varint", slices.Concat(pbVarint(1, 7), id), ErrFollowType},
		{"field 1 as a group", long(0x0b, 0x0c), ErrFollowType},
		{"field 1 as fixed64", slices.Concat(long(0x09), make([]byte, 8), id), ErrFollowType},
		{"field 2 as fixed32", slices.Concat(id, long(0x15), make([]byte, 4)), ErrFollowType},
		{"bool as bytes", pbBytes(5, string(pbBytes(1, string(pbBytes(1, "x"))))), ErrFollowType},
		{"field 1 twice", slices.Concat(id, id), ErrFollowTwice},
		{"field 2 twice", slices.Concat(id, pbBytes(2, ""), pbBytes(2, "")), ErrFollowTwice},
		{"nested field twice", pbBytes(2, string(slices.Concat(pbBytes(1, "a"), pbBytes(1, "b")))), ErrFollowTwice},
		{"bool twice", pbBytes(5, string(pbBytes(1, string(slices.Concat(pbVarint(1, 0), pbVarint(1, 1)))))), ErrFollowTwice},
		{"text is not UTF-8", pbBytes(1, "\xc3\x28"), ErrFollowText},
		{"text ends in half a character", pbBytes(1, "ab\xe2\x82"), ErrFollowText},
		{"surrogate", pbBytes(1, "\xed\xa0\x80"), ErrFollowText},
		{"over-long UTF-8", pbBytes(1, "\xe0\x80\x80"), ErrFollowText},
		{"past U+10FFFF", pbBytes(1, "\xf4\x90\x80\x80"), ErrFollowText},
		{"nested text is not UTF-8", pbBytes(2, string(pbBytes(1, "\xff"))), ErrFollowText},
		{"over-long length", slices.Concat(long(0x0a, 0x81, 0x00), []byte("x")), ErrFollowLength},
		{"over-long length of a skipped field", slices.Concat(long(0x1a, 0x81, 0x00), []byte("x")), ErrFollowLength},
		{"length past the message", long(0x1a, 5, 'x'), ErrFollowLength},
		{"length past 31 bits", long(0x1a, 0x80, 0x80, 0x80, 0x80, 0x08), ErrFollowLength},
		{"length that Java truncates to 1", slices.Concat(long(0x1a, 0x81, 0x80, 0x80, 0x80, 0x10), []byte("x")), ErrFollowLength},
		{"length past the message around it", slices.Concat(long(0x12, 3, 0x0a, 5), []byte("abcde")), ErrFollowLength},
		{"fixed32 past the message", long(0x1d, 0, 0), ErrFollowLength},
		{"fixed64 past the message around it", slices.Concat(long(0x12, 3, 0x19, 0, 0), make([]byte, 8)), ErrFollowLength},
		{"tag is the last byte", long(0x1a), ErrFollowVarint},
		{"tag is the last byte of the message around it", slices.Concat(long(0x12, 1, 0x18), long(1)), ErrFollowVarint},
		{"varint cut off by the end", long(0x18, 0x80), ErrFollowVarint},
		{"varint cut off by the end of the message around it", slices.Concat(long(0x12, 2, 0x18, 0x80), long(1)), ErrFollowVarint},
		{"tag cut off by the end", slices.Concat(id, long(0x9a)), ErrFollowVarint},
		{"length cut off by the end", slices.Concat(id, long(0x1a, 0x80)), ErrFollowVarint},
		{"eleven byte varint", slices.Concat(long(0x18), bytes.Repeat([]byte{0x80}, 10), long(1)), ErrFollowVarint},
		{"varint past 64 bits", slices.Concat(long(0x18), bytes.Repeat([]byte{0xff}, 9), long(2)), ErrFollowVarint},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, pieces := range [][][]byte{{pbMessage(0, tt.m)}, followSingle(pbMessage(0, tt.m))} {
				var f Follower
				f.Start(followSchemaFor(t))
				got := followTrace(&f, pieces...)
				if !errors.Is(f.Err(), tt.want) {
					t.Errorf("Err() = %v, want %v; trace %q", f.Err(), tt.want, got)
				}
				if n, ev := f.Next([]byte("more")); n != 0 || ev != EventFault {
					t.Errorf("after a fault Next = %d, %d", n, ev)
				}
			}
		})
	}
}

// A prefix can declare more than any protobuf parser takes. The Follower does not
// refuse that by itself, but no field in it may be so long.
func TestFollowerRefusesALengthThatIsNegativeInJava(t *testing.T) {
	var f Follower
	f.Start(followSchemaFor(t))
	got := followTrace(&f, []byte{0, 0xff, 0xff, 0xff, 0xff}, protowire.AppendVarint([]byte{0x1a}, 1<<31))
	if !errors.Is(f.Err(), ErrFollowLength) {
		t.Errorf("Err() = %v; trace %q", f.Err(), got)
	}
}

func TestFollowerHasNoHalfText(t *testing.T) {
	s, err := NewSchema(Field{Number: 1, Kind: FieldText, Repeated: true, Slot: 1})
	if err != nil {
		t.Fatal(err)
	}
	var f Follower
	f.Start(s)
	m := pbMessage(0, slices.Concat(pbBytes(1, "first"), pbBytes(1, "second")))
	followTrace(&f, m[:len(m)-1])
	if got, ok := f.Text(1); ok {
		t.Errorf("half of the second text is there: %q", got)
	}
	followTrace(&f, m[len(m)-1:])
	if got, _ := f.Text(1); string(got) != "second" {
		t.Errorf("text %q", got)
	}
}

func TestFollowerSaysWhichField(t *testing.T) {
	var f Follower
	f.Start(followSchemaFor(t))
	followTrace(&f, pbMessage(0, slices.Concat(pbBytes(6, "a"), pbBytes(6, "b"))))
	if f.FaultField() != 6 {
		t.Errorf("FaultField() = %d, want 6", f.FaultField())
	}
}

func TestFollowerKeepsNoLongText(t *testing.T) {
	for n, want := range map[int]bool{FollowText - 1: true, FollowText: true, FollowText + 1: false, 5000: false} {
		var f Follower
		f.Start(followSchemaFor(t))
		followTrace(&f, followSingle(pbMessage(0, pbBytes(1, strings.Repeat("x", n))))...)
		got, ok := f.Text(followSlotID)
		if ok != want || ok && len(got) != n {
			t.Errorf("text of %d bytes: %q, %v", n, got, ok)
		}
	}
}

func TestFollowerForgetsTheLastMessage(t *testing.T) {
	var f Follower
	f.Start(followSchemaFor(t))
	followTrace(&f, pbMessage(0, slices.Concat(pbBytes(1, followID), pbBytes(6, "op"))), pbMessage(0, nil))
	if got, ok := f.Text(followSlotID); ok {
		t.Errorf("the empty message has text %q", got)
	}
}

func TestFollowerSkipsInOneStep(t *testing.T) {
	var f Follower
	f.Start(followSchemaFor(t))
	const plan = 1 << 30
	head := slices.Concat(pbBytes(1, followID), protowire.AppendVarint([]byte{0x1a}, plan))
	prefix := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(head)+plan))
	followTrace(&f, prefix, head)
	piece := make([]byte, 16<<10)
	for range plan / len(piece) {
		if n, ev := f.step(piece); n != len(piece) || ev == EventFault {
			t.Fatalf("step = %d, %d at %d", n, ev, f.Offset())
		}
	}
	if n, ev := f.Next(nil); n != 0 || ev != EventEnd {
		t.Errorf("Next at the end = %d, %d", n, ev)
	}
}

func TestFollowerAllocatesNothing(t *testing.T) {
	s := followSchemaFor(t)
	body := pbMessage(0, slices.Concat(pbBytes(1, followID), pbBytes(2, string(pbBytes(1, "alice"))), pbBytes(3, "plan")))
	var f Follower
	got := testing.AllocsPerRun(100, func() {
		f.Start(s)
		for ev, n, p := EventMessage, 0, body; ev != EventNone; p = p[n:] {
			n, ev = f.Next(p)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
	if _, ok := f.Text(followSlotID); !ok {
		t.Error("nothing was followed")
	}
}

// Every lead byte with every kind of continuation, against the standard library.
func TestFollowerKnowsUTF8(t *testing.T) {
	edges := []byte{0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xff}
	texts := [][]byte{{}}
	for i := 0; i < len(texts); i++ { // all texts of up to three of them
		for _, c := range edges {
			if len(texts[i]) < 3 {
				texts = append(texts, slices.Concat(texts[i], []byte{c}))
			}
		}
	}
	for lead := range 256 {
		for _, rest := range texts {
			b := slices.Concat([]byte{byte(lead)}, rest)
			var u utf8Check
			ok := true
			for _, c := range b {
				ok = ok && u.add([]byte{c})
			}
			if ok = ok && u.whole(); ok != utf8.Valid(b) {
				t.Fatalf("%x: %v", b, ok)
			}
		}
	}
}

func TestNewSchemaRefuses(t *testing.T) {
	deep := []Field{{Number: 1, Kind: FieldVarint}}
	for range maxFollowDepth {
		deep = []Field{{Number: 1, Kind: FieldMessage, Fields: deep}}
	}
	tests := map[string][]Field{
		"number 0":             {{Number: 0, Kind: FieldText}},
		"number past 29 bits":  {{Number: 1 << 29, Kind: FieldText}},
		"no kind":              {{Number: 1}},
		"a field named twice":  {{Number: 1, Kind: FieldText}, {Number: 1, Kind: FieldVarint}},
		"slot past the last":   {{Number: 1, Kind: FieldText, Slot: FollowSlots + 1}},
		"fields inside a text": {{Number: 1, Kind: FieldText, Fields: []Field{}}},
		"too deep":             deep,
		"too many":             make([]Field, maxFollowFields+1),
	}
	for name, fields := range tests {
		if _, err := NewSchema(fields...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkFollower(b *testing.B) {
	s := followSchemaFor(b)
	small := pbMessage(0, slices.Concat(pbBytes(1, followID), pbBytes(2, string(pbBytes(1, "alice"))),
		pbBytes(3, "a small plan of some forty bytes or more"), pbBytes(4, "_SPARK_CONNECT_PYTHON")))
	b.Run("small message", func(b *testing.B) {
		b.ReportAllocs()
		var f Follower
		f.Start(s)
		for b.Loop() {
			for ev, n, p := EventMessage, 0, small; ev != EventNone; p = p[n:] {
				n, ev = f.Next(p)
			}
		}
	})
	b.Run("16 KiB inside a plan", func(b *testing.B) {
		piece := make([]byte, 16<<10)
		b.SetBytes(int64(len(piece)))
		b.ReportAllocs()
		var f Follower
		f.Start(nil)
		f.Next([]byte{0, 0, 0, 0, 0})
		for b.Loop() {
			f.state, f.skip = followSkip, 1<<40
			f.Next(piece)
		}
	})
}
