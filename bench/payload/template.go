package payload

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Prefix is the length of the gRPC message prefix in bytes.
const Prefix = 5

// Template is one message that is sent again and again. It is immutable, and
// costs 150 kB and 0.1 ms to make, so make it once.
type Template struct {
	size  int
	first []byte // the message's beginning, where its fields are
	fill  filling
}

// headRoom is the longest beginning of a message, in bytes, that differs from
// the filling. What a proxy may amend is in there or comes after the message.
const headRoom = 256

// firstLen is how much of a message Template keeps ready, in bytes.
const firstLen = 16384

// newTemplate makes a message of size bytes on the wire: the prefix, head, and
// then bytes fields nested by path that hold the filling.
func newTemplate(size int, head []byte, path ...byte) (*Template, error) {
	t := &Template{size: size, fill: newFilling()}
	b := make([]byte, Prefix, firstLen)
	b = append(b, head...)
	for _, field := range path {
		n, ok := fieldLen(size - len(b))
		if !ok {
			return nil, fmt.Errorf("no message of %d bytes: choose a size a little larger", size)
		}
		b = append(b, field<<3|2)
		b = binary.AppendUvarint(b, uint64(n))
	}
	if len(b) > headRoom {
		return nil, fmt.Errorf("the fields before the filling take %d bytes, the limit is %d", len(b), headRoom)
	}
	binary.BigEndian.PutUint32(b[1:], uint32(size-Prefix))
	n := min(size, firstLen) - len(b)
	b = append(b, t.fill.run(len(b), n)...)
	t.first = b
	return t, nil
}

// fieldLen returns the length that a bytes field must declare to take room
// bytes with its tag and length. Some few rooms have no answer.
func fieldLen(room int) (int, bool) {
	for digits := 1; digits <= 5; digits++ {
		n := room - 1 - digits
		if n >= 0 && len(binary.AppendUvarint(nil, uint64(n))) == digits {
			return n, true
		}
	}
	return 0, false
}

// Size is the message's length on the wire, prefix included, in bytes.
func (t *Template) Size() int { return t.size }

// At returns at most n bytes of the message from off; fewer where the memory
// behind them is not contiguous, and at least one if off is in the message.
func (t *Template) At(off, n int) []byte {
	n = min(n, t.size-off, maxRun)
	if off < len(t.first) {
		return t.first[off:min(off+n, len(t.first))]
	}
	return t.fill.run(off, n)
}

// Bytes returns the whole message. It is for small messages.
func (t *Template) Bytes() []byte {
	b := make([]byte, 0, t.size)
	for len(b) < t.size {
		b = append(b, t.At(len(b), maxRun)...)
	}
	return b
}

// equal says that p stands at off of the message.
func (t *Template) equal(off int, p []byte) bool {
	for len(p) > 0 {
		want := t.At(off, len(p))
		if len(want) == 0 || !bytes.Equal(want, p[:len(want)]) {
			return false
		}
		off += len(want)
		p = p[len(want):]
	}
	return true
}

// Exact is the template of one small message as it stands on the wire.
func Exact(wire []byte) *Template { return &Template{size: len(wire), first: wire} }
