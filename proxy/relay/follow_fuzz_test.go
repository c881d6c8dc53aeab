package relay

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// guarded is what a parser reads in the fields of followSchemaFor.
type guarded struct {
	id, user, op string
	yes          bool // any bool of a field 5
}

// guardedType is a message of just those fields, so that Unmarshal has no
// reason of its own to refuse one that the Follower takes.
func guardedType(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	field := func(n int32, name string, ty descriptorpb.FieldDescriptorProto_Type, of string) *descriptorpb.FieldDescriptorProto {
		fd := &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(n), Type: ty.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if of != "" {
			fd.TypeName = proto.String(of)
		}
		return fd
	}
	const (
		text    = descriptorpb.FieldDescriptorProto_TYPE_STRING
		boolean = descriptorpb.FieldDescriptorProto_TYPE_BOOL
		nested  = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	)
	options := field(5, "options", nested, ".t.Option")
	options.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	message := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: proto.String(name), Field: fields}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("t.proto"), Package: proto.String("t"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			message("Request", field(1, "id", text, ""), field(2, "context", nested, ".t.Context"), options, field(6, "op", text, "")),
			message("Context", field(1, "user", text, "")),
			message("Option", field(1, "reattach", nested, ".t.Reattach")),
			message("Reattach", field(1, "yes", boolean, "")),
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().ByName("Request")
}

// unmarshal is what Go's parser reads.
func unmarshalGuarded(md protoreflect.MessageDescriptor, m []byte) (guarded, error) {
	msg := dynamicpb.NewMessage(md)
	if err := proto.Unmarshal(m, msg); err != nil {
		return guarded{}, err
	}
	get := func(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
		return m.Get(m.Descriptor().Fields().ByName(name))
	}
	g := guarded{
		id: get(msg, "id").String(), op: get(msg, "op").String(),
		user: get(get(msg, "context").Message(), "user").String(),
	}
	options := get(msg, "options").List()
	for i := range options.Len() {
		if get(get(options.Get(i).Message(), "reattach").Message(), "yes").Bool() {
			g.yes = true
		}
	}
	return g, nil
}

// dialect is how another language's parser differs from Go's in what it makes of
// varints; both are written down from their sources.
type dialect struct {
	name   string
	tag    func(uint64) (uint32, bool)
	length func(uint64) (int64, bool)
	strict bool // a known field in the wrong wire type is an error, not unknown
}

// dialects: protobuf-java's CodedInputStream reads tags and lengths through
// readRawVarint32, which drops all bits past 32; prost checks the tag against
// u32 and the wire type of the fields it knows.
func dialects() []dialect {
	return []dialect{
		{
			name:   "java",
			tag:    func(v uint64) (uint32, bool) { return uint32(v), uint32(v)>>3 != 0 },
			length: func(v uint64) (int64, bool) { return int64(int32(uint32(v))), int32(uint32(v)) >= 0 },
		},
		{
			name:   "prost",
			tag:    func(v uint64) (uint32, bool) { return uint32(v), v <= math.MaxUint32 && v >= 8 },
			length: func(v uint64) (int64, bool) { return int64(v), v <= math.MaxInt64 },
			strict: true,
		},
	}
}

// parse calls known for each field that is not a group; known says whether it
// has that field and takes it in that wire type.
func (d dialect) parse(m []byte, known func(number uint32, wire uint8, v uint64, b []byte) (has, takes bool)) bool {
	for len(m) > 0 {
		raw, n := protowire.ConsumeVarint(m)
		tag, ok := d.tag(raw)
		if n < 0 || !ok {
			return false
		}
		m = m[n:]
		var v uint64
		var b []byte
		size := 0
		switch tag & 7 {
		case wireVarint:
			v, size = protowire.ConsumeVarint(m)
		case wireFixed64:
			size = 8
		case wireFixed32:
			size = 4
		case wireBytes:
			l, n := protowire.ConsumeVarint(m)
			length, ok := d.length(l)
			if n < 0 || !ok || length > int64(len(m)-n) {
				return false
			}
			b, size = m[n:n+int(length)], n+int(length)
		default:
			return false
		}
		if size < 0 || size > len(m) {
			return false
		}
		m = m[size:]
		if has, takes := known(tag>>3, uint8(tag&7), v, b); has && !takes && d.strict {
			return false
		}
	}
	return true
}

// read is what that parser reads of the guarded fields: the last one wins, and
// messages merge.
func (d dialect) read(m []byte) (g guarded, ok bool) {
	good := true
	set := func(to *string, wire uint8, b []byte) (bool, bool) {
		if wire == wireBytes {
			*to = string(b)
		}
		return true, wire == wireBytes
	}
	into := func(wire uint8, b []byte, known func(uint32, uint8, uint64, []byte) (bool, bool)) (bool, bool) {
		if wire == wireBytes {
			good = d.parse(b, known) && good
		}
		return true, wire == wireBytes
	}
	ok = d.parse(m, func(number uint32, wire uint8, _ uint64, b []byte) (bool, bool) {
		switch number {
		case 1:
			return set(&g.id, wire, b)
		case 6:
			return set(&g.op, wire, b)
		case 2:
			return into(wire, b, func(number uint32, wire uint8, _ uint64, b []byte) (bool, bool) {
				if number == 1 {
					return set(&g.user, wire, b)
				}
				return false, false
			})
		case 5:
			return into(wire, b, func(number uint32, wire uint8, _ uint64, b []byte) (bool, bool) {
				if number != 1 {
					return false, false
				}
				return into(wire, b, func(number uint32, wire uint8, v uint64, _ []byte) (bool, bool) {
					if number == 1 && wire == wireVarint {
						g.yes = g.yes || v != 0
					}
					return number == 1, wire == wireVarint
				})
			})
		}
		return false, false
	})
	return g, ok && good
}

// followGuarded is what the Follower reads.
func followGuarded(s *Schema, m []byte) (g guarded, err error) {
	var f Follower
	f.Start(s)
	p := pbMessage(0, m)
	for {
		n, ev := f.Next(p)
		p = p[n:]
		text, ok := "", false
		switch ev {
		case EventFault:
			return guarded{}, f.Err()
		case EventEnd:
			return g, nil
		case EventNone:
			return guarded{}, fmt.Errorf("the message does not end")
		case EventField:
			var b []byte
			b, ok = f.Text(f.Slot())
			text = string(b)
		default:
			continue
		}
		switch f.Slot() {
		case followSlotID:
			g.id = text
		case followSlotOp:
			g.op = text
		case followSlotYes:
			v, _ := f.Varint(followSlotYes)
			g.yes, ok = g.yes || v != 0, true
		}
		if !ok {
			return guarded{}, fmt.Errorf("slot %d: text too long to keep", f.Slot())
		}
	}
}

func fuzzSeeds() [][]byte {
	id, op := pbBytes(1, followID), pbBytes(6, "op")
	user := func(s string) []byte { return pbBytes(2, string(pbBytes(1, s))) }
	yes := pbBytes(5, string(pbBytes(1, string(pbVarint(1, 1)))))
	return [][]byte{
		nil,
		slices.Concat(id, user("alice"), pbBytes(3, "plan"), yes, op),
		slices.Concat(yes, op, pbVarint(4, math.MaxUint64), user(""), id),
		{0xc5, 0xc5, 0xc5, 0xc5, 0x30, 0x30, 0x30, 0x30, 0x30},
		slices.Concat(id, id),
		slices.Concat(id, user("a"), user("b")),
		slices.Concat(id, pbBytes(2, string(slices.Concat(pbBytes(1, "a"), pbBytes(1, "b"))))),
		slices.Concat([]byte{0x8a, 0x00, 1}, []byte("x")),
		slices.Concat(id, []byte{0x92, 0x00, 0}),
		slices.Concat(id, []byte{0x8a, 0x80, 0x80, 0x80, 0x10, 1}, []byte("x")),
		slices.Concat(id, []byte{0x1a, 0x81, 0x80, 0x80, 0x80, 0x10}, []byte("x")),
		slices.Concat([]byte{0x0a, 0x81, 0x00}, []byte("x")),
		slices.Concat(pbVarint(1, 7), id),
		{0x0b, 0x0c},
		{0x1b, 0x1c},
		slices.Concat(id, []byte{0x18, 0x80}),
		slices.Concat(id, []byte{0x18}, bytes.Repeat([]byte{0xff}, 9), []byte{2}),
		slices.Concat(id, []byte{0x1d, 0, 0}),
		pbBytes(1, "\xed\xa0\x80"),
		slices.Concat(id, user("\xff")),
		[]byte(strings.Repeat("\x2a\x00", 20)),
	}
}

// What the Follower takes, every parser must read the same way; and after a
// stamp is appended, only the user may differ.
func FuzzFollowerAgainstUnmarshal(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(seed, "bob")
	}
	s, md := followSchemaFor(f), guardedType(f)
	f.Fuzz(func(t *testing.T, m []byte, user string) {
		got, err := followGuarded(s, m)
		if err != nil {
			return
		}
		want, err := unmarshalGuarded(md, m)
		if err != nil {
			t.Fatalf("took %x, Unmarshal did not: %v", m, err)
		}
		got.user = want.user // guarded, not kept
		if got != want {
			t.Fatalf("%x: followed %+v, Unmarshal %+v", m, got, want)
		}
		stamped := slices.Concat(m, pbBytes(2, string(pbBytes(1, strings.ToValidUTF8(user, "?")))))
		after := want
		after.user = strings.ToValidUTF8(user, "?")
		if got, err := unmarshalGuarded(md, stamped); err != nil || got != after {
			t.Fatalf("%x: stamped %+v, %v, want %+v", m, got, err, after)
		}
		for _, d := range dialects() {
			if got, ok := d.read(m); !ok || got != want {
				t.Fatalf("%x: %s reads %+v, %v; Go %+v", m, d.name, got, ok, want)
			}
			if got, ok := d.read(stamped); !ok || got != after {
				t.Fatalf("%x: stamped, %s reads %+v, %v; want %+v", m, d.name, got, ok, after)
			}
		}
	})
}

// How a body is cut into pieces changes nothing.
func FuzzFollowerSplits(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(pbMessage(0, seed), uint64(1))
		f.Add(slices.Concat(pbMessage(0, seed), pbMessage(1, seed), pbMessage(0, seed)), uint64(2))
	}
	f.Fuzz(func(t *testing.T, body []byte, seed uint64) {
		want := followTraceOf(t, body)
		if got := followTraceOf(t, followSingle(body)...); !slices.Equal(got, want) {
			t.Fatalf("single bytes:\n%q\nwhole:\n%q", got, want)
		}
		pieces := followCut(body, rand.New(rand.NewPCG(seed, 0)))
		if got := followTraceOf(t, pieces...); !slices.Equal(got, want) {
			t.Fatalf("%x:\n%q\nwhole:\n%q", pieces, got, want)
		}
	})
}

// The Follower is strict, and must not be stricter than what real clients send:
// what a protobuf library marshals is taken.
func FuzzFollowerTakesWhatIsMarshalled(f *testing.F) {
	f.Add(followID, "alice", "op", true, 2, []byte("plan"))
	f.Add("", "", "", false, 0, []byte{})
	s, md := followSchemaFor(f), guardedType(f)
	f.Fuzz(func(t *testing.T, id, user, op string, yes bool, options int, unknown []byte) {
		if len(id) > FollowText || len(op) > FollowText {
			return
		}
		msg := dynamicpb.NewMessage(md)
		set := func(m protoreflect.Message, name protoreflect.Name, v protoreflect.Value) {
			m.Set(m.Descriptor().Fields().ByName(name), v)
		}
		mutable := func(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
			return m.Mutable(m.Descriptor().Fields().ByName(name))
		}
		want := guarded{id: strings.ToValidUTF8(id, ""), op: strings.ToValidUTF8(op, ""), yes: yes && options > 0}
		set(msg, "id", protoreflect.ValueOfString(want.id))
		set(msg, "op", protoreflect.ValueOfString(want.op))
		set(mutable(msg, "context").Message(), "user", protoreflect.ValueOfString(strings.ToValidUTF8(user, "")))
		for range min(options, 5) {
			o := mutable(msg, "options").List().AppendMutable().Message()
			set(mutable(o, "reattach").Message(), "yes", protoreflect.ValueOfBool(yes))
		}
		msg.SetUnknown(slices.Concat(pbBytes(3, string(unknown)), pbVarint(maxFieldNumber, uint64(options))))
		m, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := followGuarded(s, m); err != nil || got != want {
			t.Fatalf("%x: followed %+v, %v; want %+v", m, got, err, want)
		}
	})
}
