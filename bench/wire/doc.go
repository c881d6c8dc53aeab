// Package wire is HTTP/2 framing by hand, just enough for the two ends of the
// benchmark: the load generator and the backend.
//
//	r := wire.NewReader(conn, 64<<10)
//	for {
//		h, payload, err := r.Next() // payload is good until the next call
//		...
//	}
//	out = wire.AppendWindowUpdate(out, h.Stream, 1<<20)
//
// Frames are appended to a byte slice and parsed in place, so that what the
// benchmark itself costs stays small beside the proxy between its two ends.
//
// It does not check what a server must check: it trusts its peer, which is a
// proxy under test, and gives up with an error on what it does not know
// (CONTINUATION frames).
package wire
