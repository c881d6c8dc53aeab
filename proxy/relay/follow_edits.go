package relay

// Drop takes the next n bytes of p out of the stream: they are accounted for
// and go nowhere (their window credit is returned as if they had been written).
// A message's prefix that came in two pieces is dropped and, once it is whole,
// put in again with another length.
//
// A piece with an insert stands for n bytes of p that insert replaces, so one
// rule serves all three: send insert if it is set, else p[:n]; then p = p[n:].
func (e *Edits) Drop(n int) {
	if n == 0 {
		return
	}
	e.used += n
	e.pieces = append(e.pieces, piece{n: n, insert: []byte{}})
}

// Reset empties e for the next call of Edit and keeps its memory.
func (e *Edits) Reset() { e.reset() }

// AppendTo appends to dst what goes on of p, the bytes that Edit was given. It
// is the meaning of Edits in one function: the relay does the same without the
// copy, and tests of a Call compare against it.
func (e *Edits) AppendTo(dst, p []byte) []byte {
	for _, pc := range e.pieces {
		if pc.insert != nil {
			dst = append(dst, pc.insert...)
		} else {
			dst = append(dst, p[:pc.n]...)
		}
		p = p[pc.n:]
	}
	return dst
}
