package relay

import "math"

// readVarint follows the bytes of one varint; done says that it is complete. It
// fails as soon as the varint can't end inside its message or inside 64 bits.
func (f *Follower) readVarint(p []byte) (n int, done bool) {
	for n < len(p) {
		if f.left() == 0 {
			f.fail(ErrFollowVarint)
			return n, false
		}
		b := p[n]
		n++
		f.off++
		if f.varN == 9 && b > 1 {
			f.fail(ErrFollowVarint)
			return n, false
		}
		f.varint |= uint64(b&0x7f) << (7 * f.varN)
		f.varN++
		if b < 0x80 {
			f.exact = b != 0 || f.varN == 1
			return n, true
		}
	}
	return n, false
}

// pending is the event of a varint that is not complete: more bytes, or a fault.
func (f *Follower) pending() Event {
	if f.state == followFault {
		return EventFault
	}
	if f.left() == 0 {
		f.fail(ErrFollowVarint)
		return EventFault
	}
	return EventNone
}

// readTag reads the tag of a field, or ends the message that is complete.
func (f *Follower) readTag(p []byte) (int, Event) {
	if f.varN == 0 && f.left() == 0 {
		if f.depth > 0 {
			f.depth--
			return 0, eventMore
		}
		f.state = followPrefix
		return 0, EventEnd
	}
	f.field = nil
	n, done := f.readVarint(p)
	if !done {
		return n, f.pending()
	}
	if !f.exact || f.varint > math.MaxUint32 || f.varint < 1<<3 {
		ev := f.fail(ErrFollowTag)
		return n, ev
	}
	return n, f.beginField(uint32(f.varint>>3), uint8(f.varint&7))
}

// beginField decides what becomes of the field whose tag was read.
func (f *Follower) beginField(number uint32, wire uint8) Event {
	if err := f.name(number, wire); err != nil {
		ev := f.fail(err)
		return ev
	}
	switch wire {
	case wireVarint:
		f.beginVarint(followScalar)
		return eventMore
	case wireFixed64:
		f.state, f.skip = followSkip, 8
		return f.needs(8)
	case wireBytes:
		f.beginVarint(followLength)
		return eventMore
	case wireFixed32:
		f.state, f.skip = followSkip, 4
		return f.needs(4)
	default:
		ev := f.fail(ErrFollowTag)
		return ev
	}
}

// needs fails if the open message has fewer than n bytes left.
func (f *Follower) needs(n uint64) Event {
	if f.left() < n {
		ev := f.fail(ErrFollowLength)
		return ev
	}
	return eventMore
}

// name finds the field in the Schema and holds it to what the Schema says.
func (f *Follower) name(number uint32, wire uint8) error {
	lv := &f.levels[f.depth]
	for i := range lv.fields {
		fd := &lv.fields[i]
		if fd.Number != number {
			continue
		}
		f.field = fd
		if wire != fd.Kind.wire() {
			return ErrFollowType
		}
		if lv.seen&(1<<i) != 0 && !fd.Repeated {
			return ErrFollowTwice
		}
		lv.seen |= 1 << i
		return nil
	}
	return nil
}

// readLength reads the length of a field and decides what becomes of its bytes.
func (f *Follower) readLength(p []byte) (int, Event) {
	n, done := f.readVarint(p)
	if !done {
		return n, f.pending()
	}
	if !f.exact || f.varint > MaxMessage || f.varint > f.left() {
		ev := f.fail(ErrFollowLength)
		return n, ev
	}
	f.skip = f.varint
	switch {
	case f.field == nil:
		f.state = followSkip
	case f.field.Kind == FieldMessage:
		if f.field.Slot != 0 {
			f.values[f.field.Slot].num, f.values[f.field.Slot].set = 1, true
		}
		f.levels[f.depth+1] = followLevel{fields: f.field.Fields, end: f.off + f.skip}
		f.depth++
		f.beginVarint(followTag)
	default:
		v := &f.values[f.field.Slot]
		v.set, v.n = false, 0
		f.state, f.utf8 = followText, utf8Check{}
	}
	return n, eventMore
}

// readScalar reads the value of a varint field.
func (f *Follower) readScalar(p []byte) (int, Event) {
	n, done := f.readVarint(p)
	if !done {
		return n, f.pending()
	}
	if f.field != nil {
		f.values[f.field.Slot].num = f.varint
	}
	return n, f.endField()
}

// readText reads a text of the Schema and keeps as much of it as fits.
func (f *Follower) readText(p []byte) (int, Event) {
	p = p[:min(uint64(len(p)), f.skip)]
	v := &f.values[f.field.Slot]
	if v.n < FollowText {
		copy(v.buf[v.n:], p)
	}
	v.n += uint64(len(p))
	f.skip -= uint64(len(p))
	f.off += uint64(len(p))
	if !f.utf8.add(p) || f.skip == 0 && !f.utf8.whole() {
		ev := f.fail(ErrFollowText)
		return len(p), ev
	}
	if f.skip > 0 {
		return len(p), EventNone
	}
	return len(p), f.endField()
}

// endField completes a text or a varint.
func (f *Follower) endField() Event {
	f.beginVarint(followTag)
	if f.field == nil || f.field.Slot == 0 {
		return eventMore
	}
	f.values[f.field.Slot].set = true
	return EventField
}

// readSkip passes over bytes that nobody reads: one step, however many.
func (f *Follower) readSkip(p []byte) (int, Event) {
	n := min(uint64(len(p)), f.skip)
	f.skip -= n
	f.off += n
	if f.skip > 0 {
		return int(n), EventNone
	}
	f.beginVarint(followTag)
	return int(n), eventMore
}

// utf8Check validates UTF-8 that comes in pieces (RFC 3629, section 4).
type utf8Check struct {
	need   uint8 // continuation bytes to come
	lo, hi byte  // bounds of the next one
}

// add reports whether p goes on validly from what came before.
func (u *utf8Check) add(p []byte) bool {
	for _, b := range p {
		switch {
		case u.need > 0:
			if b < u.lo || b > u.hi {
				return false
			}
			u.need, u.lo, u.hi = u.need-1, 0x80, 0xbf
		case b >= 0x80 && !u.lead(b):
			return false
		}
	}
	return true
}

// lead begins a character of two to four bytes.
func (u *utf8Check) lead(b byte) bool {
	u.lo, u.hi = 0x80, 0xbf
	switch {
	case b < 0xc2 || b > 0xf4:
		return false
	case b < 0xe0:
		u.need = 1
	case b < 0xf0:
		u.need = 2
	default:
		u.need = 3
	}
	switch b {
	case 0xe0:
		u.lo = 0xa0
	case 0xed:
		u.hi = 0x9f // surrogates
	case 0xf0:
		u.lo = 0x90
	case 0xf4:
		u.hi = 0x8f // past U+10FFFF
	}
	return true
}

// whole says that no character is cut off.
func (u *utf8Check) whole() bool { return u.need == 0 }
