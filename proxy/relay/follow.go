package relay

import (
	"encoding/binary"
	"errors"
	"math"
)

// PrefixLen is the length of a gRPC message's prefix: one flag byte and four
// bytes of length, big-endian.
const PrefixLen = 5

// MaxMessage is the longest protobuf message there is, in bytes: no parser
// takes more, whatever four bytes of length could say.
const MaxMessage = math.MaxInt32

const (
	maxFieldNumber = 1<<29 - 1

	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// What a Follower refuses. Each of these is a place where Go's, Java's and
// Rust's parsers differ from one another, or where all of them refuse.
var (
	// ErrFollowTag: a tag in more bytes than it needs, past 32 bits, with field
	// number 0, or of a group or an unknown wire type.
	ErrFollowTag = errors.New("relay: malformed protobuf tag")
	// ErrFollowVarint: a varint past 64 bits or cut off by its message's end.
	ErrFollowVarint = errors.New("relay: malformed protobuf varint")
	// ErrFollowLength: a length in more bytes than it needs, or past the end of
	// the message around it.
	ErrFollowLength = errors.New("relay: malformed protobuf length")
	// ErrFollowType: a field of the Schema in another wire type than its own.
	ErrFollowType = errors.New("relay: protobuf field of the wrong type")
	// ErrFollowTwice: a field of the Schema came twice.
	ErrFollowTwice = errors.New("relay: protobuf field given twice")
	// ErrFollowText: a text of the Schema is not UTF-8.
	ErrFollowText = errors.New("relay: protobuf text is not UTF-8")
)

// Event is what Follower.Next stopped at.
type Event uint8

const (
	// EventNone: all bytes were followed and nothing happened at their end.
	EventNone Event = iota
	// EventMessage: a prefix is complete; Flag and Length are those of the message
	// that begins.
	EventMessage
	// EventField: the value of a field with a slot is complete; Slot says which.
	EventField
	// EventEnd: the message is complete.
	EventEnd
	// EventFault: the message is refused, Err says why. A Follower stays there.
	EventFault

	eventMore // inside this package: go on
)

// Follower follows the body of a gRPC stream: message prefixes, and of each
// message the top-level protobuf fields, skipping by length what its Schema does
// not name. What it passes, every protobuf parser reads the same way, as far as
// the fields of the Schema go; that is why it is stricter than any of them
// (security table, rows 31 to 33; follow_fuzz_test.go is the proof against
// proto.Unmarshal).
//
// It is a fixed few hundred bytes, allocates nothing, believes no length before the
// bytes came, and a run of bytes inside a skipped field costs the same
// whatever its length. How the body is cut into pieces changes nothing.
//
//	for {
//		n, ev := f.Next(p)
//		p = p[n:]
//		if ev == EventNone {
//			break
//		}
//		...
//	}
//
// A Follower is used by one goroutine at a time. The zero value follows prefixes
// only; Start gives it a Schema. It knows no field by name and no service.
type Follower struct {
	schema *Schema
	err    error

	flag   byte
	state  followState
	depth  int8  // which level is open
	varN   uint8 // bytes of varint that came
	prefN  uint8 // bytes of prefix that came
	exact  bool  // the varint read last is in its shortest form
	prefix [PrefixLen]byte
	utf8   utf8Check

	varint uint64
	length uint64 // of the message, as declared
	off    uint64 // bytes of the message that came
	skip   uint64 // bytes left of the field being skipped or kept
	field  *Field // being read, nil if the Schema does not name it

	levels [maxFollowDepth]followLevel
	values [FollowSlots + 1]followValue // [0] is where unkept values go
}

// followLevel is one open message.
type followLevel struct {
	fields []Field
	seen   uint32 // bit i: fields[i] came
	end    uint64 // offset in the outermost message
}

// followValue is one slot.
type followValue struct {
	set bool
	n   uint64 // length of the text, which may exceed buf
	num uint64
	buf [FollowText]byte
}

type followState uint8

const (
	followPrefix followState = iota // between messages, or inside a prefix
	followTag                       // between fields, or inside a tag
	followLength                    // inside the length of a field
	followScalar                    // inside a varint field
	followText                      // inside a text of the Schema
	followSkip                      // inside bytes that nobody reads
	followFault
)

// Start makes f ready for the first byte of a body. A nil Schema follows
// prefixes only.
func (f *Follower) Start(s *Schema) {
	*f = Follower{schema: s}
}

// Next follows p up to the next event and returns how many bytes of p that
// took. It returns EventNone only when it took all of p; after any other event
// but EventFault it is to be called again, even with no bytes left.
func (f *Follower) Next(p []byte) (n int, ev Event) {
	for {
		k, ev := f.step(p[n:])
		n += k
		if ev != eventMore {
			return n, ev
		}
	}
}

func (f *Follower) step(p []byte) (int, Event) {
	switch f.state {
	case followPrefix:
		return f.readPrefix(p)
	case followTag:
		return f.readTag(p)
	case followLength:
		return f.readLength(p)
	case followScalar:
		return f.readScalar(p)
	case followText:
		return f.readText(p)
	case followSkip:
		return f.readSkip(p)
	default:
		return 0, EventFault
	}
}

// Flag is the first byte of the message's prefix: 0, or 1 for a compressed
// message. A message with another flag than 0 is skipped unread.
func (f *Follower) Flag() byte { return f.flag }

// Length is what the message's prefix declares, in bytes without the prefix.
func (f *Follower) Length() uint64 { return f.length }

// Offset is how many bytes of the message came, without the prefix.
func (f *Follower) Offset() uint64 { return f.off }

// InMessage says that a prefix is complete and its message is not.
func (f *Follower) InMessage() bool { return f.state != followPrefix }

// Between says that no byte of a further message came: the body may end here.
func (f *Follower) Between() bool { return f.state == followPrefix && f.prefN == 0 }

// Prefix is the message's prefix as it came.
func (f *Follower) Prefix() [PrefixLen]byte { return f.prefix }

// Slot is the slot that EventField is about.
func (f *Follower) Slot() int { return f.field.Slot }

// Err says why EventFault, or nil. It is one of the ErrFollow errors.
func (f *Follower) Err() error { return f.err }

// FaultField is the number of the Schema's field that EventFault is about,
// or 0 if it is not about one.
func (f *Follower) FaultField() uint32 {
	if f.err == nil || f.field == nil {
		return 0
	}
	return f.field.Number
}

// Text returns the text kept in a slot. ok is false if this message has none
// (yet) or it is longer than FollowText. The bytes are valid until the next
// message begins.
func (f *Follower) Text(slot int) (b []byte, ok bool) {
	v := &f.values[slot]
	if !v.set || v.n > FollowText {
		return nil, false
	}
	return v.buf[:v.n], true
}

// Varint returns the number kept in a slot; ok is false if this message has
// none (yet).
func (f *Follower) Varint(slot int) (num uint64, ok bool) {
	return f.values[slot].num, f.values[slot].set
}

func (f *Follower) fail(err error) Event {
	f.err, f.state = err, followFault
	return EventFault
}

func (f *Follower) readPrefix(p []byte) (int, Event) {
	n := copy(f.prefix[f.prefN:], p)
	f.prefN += uint8(n)
	if f.prefN < PrefixLen {
		return n, EventNone
	}
	f.flag, f.length = f.prefix[0], uint64(binary.BigEndian.Uint32(f.prefix[1:]))
	f.prefN, f.off, f.depth, f.field = 0, 0, 0, nil
	for i := range f.values {
		f.values[i].set = false
	}
	f.levels[0] = followLevel{end: f.length}
	if f.schema == nil || f.flag != 0 {
		f.state, f.skip = followSkip, f.length
		return n, EventMessage
	}
	f.levels[0].fields = f.schema.fields
	f.beginVarint(followTag)
	return n, EventMessage
}

func (f *Follower) beginVarint(s followState) {
	f.state, f.varint, f.varN = s, 0, 0
}

// left is how many bytes of the innermost open message are to come.
func (f *Follower) left() uint64 { return f.levels[f.depth].end - f.off }
