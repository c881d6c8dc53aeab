package relay

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// memos is how many header blocks a connection remembers in each direction.
// One client sends a handful of different ones.
const memos = 4

// blockDecoder decodes the header blocks that come in on one connection. The
// connection's reader owns it.
//
// Decoding a block costs more than anything else in a small call, above all the
// Huffman code of a token that the client sends as a literal each time. A
// block that does not change the dynamic table is a pure function of its bytes and
// of the table, so the last few such blocks are remembered: the same bytes
// over the same table are the same *Header, for the price of comparing them.
type blockDecoder struct {
	dec     *hpack.Decoder
	fields  []hpack.HeaderField
	size    int // of the list being decoded, RFC 9113 section 6.5.2
	maxSize int
	table   uint64 // grows with each change of the dynamic table
	memo    [memos]decoded
	next    int
}

type decoded struct {
	raw    []byte
	table  uint64
	header *Header
}

func newBlockDecoder(maxSize int) *blockDecoder {
	d := &blockDecoder{maxSize: maxSize}
	d.dec = hpack.NewDecoder(4096, d.emit)
	d.dec.SetMaxStringLength(maxSize)
	return d
}

func (d *blockDecoder) emit(f hpack.HeaderField) {
	d.size += int(f.Size())
	if d.size <= d.maxSize {
		d.fields = append(d.fields, f)
	}
}

// decode returns the header list of a complete block; tooLarge says that it
// was over the bound and h holds only its beginning. An error is one of the connection.
func (d *blockDecoder) decode(block []byte, kind blockKind) (h *Header, tooLarge bool, err error) {
	for i := range d.memo {
		m := &d.memo[i]
		if m.header != nil && m.table == d.table && m.header.kind == kind && bytes.Equal(m.raw, block) {
			return m.header, false, nil
		}
	}
	d.fields, d.size = nil, 0
	if _, err := d.dec.Write(block); err != nil {
		return nil, false, err
	}
	if err := d.dec.Close(); err != nil {
		return nil, false, err
	}
	h = &Header{Fields: d.fields}
	d.fields = nil
	changed := changesTable(block)
	if changed {
		d.table++ // whatever else is wrong with the block
	}
	if d.size > d.maxSize {
		return h, true, nil
	}
	h.check(kind)
	if changed {
		return h, false, nil
	}
	m := &d.memo[d.next%memos]
	d.next++
	m.raw, m.table, m.header = append(m.raw[:0], block...), d.table, h
	return h, false, nil
}

// forget drops the remembered blocks.
func (d *blockDecoder) forget() { d.memo = [memos]decoded{} }

// blockEncoder encodes the header blocks that go out on one connection, under
// the lock that orders what is sent on it. It remembers blocks the same way: a
// list that was encoded without changing the dynamic table is the same
// bytes again as long as the table stays.
type blockEncoder struct {
	enc   *hpack.Encoder
	buf   bytes.Buffer
	table uint64
	memo  [memos]encoded
	next  int
}

type encoded struct {
	header *Header
	table  uint64
	raw    []byte
}

func newBlockEncoder() *blockEncoder {
	e := &blockEncoder{}
	e.enc = hpack.NewEncoder(&e.buf)
	return e
}

// setTableSize follows the peer's SETTINGS_HEADER_TABLE_SIZE.
func (e *blockEncoder) setTableSize(v uint32) {
	e.enc.SetMaxDynamicTableSizeLimit(min(v, 4096))
	if v <= 4096 {
		e.enc.SetMaxDynamicTableSize(v)
	}
	e.table++
}

// encode returns the block of h, valid until the next call.
func (e *blockEncoder) encode(h *Header) []byte {
	for i := range e.memo {
		if m := &e.memo[i]; m.header == h && m.table == e.table {
			return m.raw
		}
	}
	e.buf.Reset()
	for _, f := range h.Fields {
		_ = e.enc.WriteField(f) // a bytes.Buffer takes everything
	}
	block := e.buf.Bytes()
	if changesTable(block) {
		e.table++
		return block
	}
	m := &e.memo[e.next%memos]
	e.next++
	m.header, m.table, m.raw = h, e.table, append(m.raw[:0], block...)
	return m.raw
}

// forget drops the remembered blocks.
func (e *blockEncoder) forget() { e.memo, e.buf = [memos]encoded{}, bytes.Buffer{} }

// changesTable says whether a well-formed block adds to the dynamic table or
// resizes it (RFC 7541 section 6). What it cannot follow counts as a change.
func changesTable(b []byte) bool {
	for len(b) > 0 {
		var ok, literal bool
		c := b[0]
		switch {
		case c&0x80 != 0: // indexed field, 6.1
			b, _, ok = skipInt(b, 7)
		case c&0xe0 != 0: // literal with incremental indexing, 6.2.1; size update, 6.3
			return true
		default: // literal without indexing or never indexed, 6.2.2 and 6.2.3
			var index uint64
			b, index, ok = skipInt(b, 4)
			literal = true
			if ok && index == 0 {
				b, ok = skipString(b)
			}
		}
		if ok && literal {
			b, ok = skipString(b)
		}
		if !ok {
			return true
		}
	}
	return false
}

func skipString(b []byte) ([]byte, bool) {
	if len(b) == 0 {
		return nil, false
	}
	rest, n, ok := skipInt(b, 7)
	if !ok || n > uint64(len(rest)) {
		return nil, false
	}
	return rest[n:], true
}

// skipInt reads an integer with an n-bit prefix (RFC 7541 section 5.1).
func skipInt(b []byte, n uint) ([]byte, uint64, bool) {
	mask := uint64(1)<<n - 1
	v := uint64(b[0]) & mask
	b = b[1:]
	if v < mask {
		return b, v, true
	}
	for shift := uint(0); shift < 63 && len(b) > 0; shift += 7 {
		c := b[0]
		b = b[1:]
		v += uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			return b, v, true
		}
	}
	return nil, 0, false
}
