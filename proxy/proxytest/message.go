package proxytest

import (
	"encoding/binary"
	"fmt"
)

// Message puts the gRPC prefix before b: flag 0 and the length.
func Message(b []byte) []byte { return FlaggedMessage(0, b) }

// FlaggedMessage is Message with another flag byte.
func FlaggedMessage(flag byte, b []byte) []byte {
	m := make([]byte, 5, 5+len(b))
	m[0] = flag
	binary.BigEndian.PutUint32(m[1:], uint32(len(b))) //nolint:gosec // test messages are small
	return append(m, b...)
}

// Messages splits the body of a gRPC stream. An error says that it ends inside
// a message; the whole ones before it are returned with it.
func Messages(body []byte) ([][]byte, error) {
	var all [][]byte
	for len(body) > 0 {
		if len(body) < 5 {
			return all, fmt.Errorf("%d bytes of a prefix", len(body))
		}
		n := int(binary.BigEndian.Uint32(body[1:5]))
		if len(body) < 5+n {
			return all, fmt.Errorf("%d of %d bytes of a message", len(body)-5, n)
		}
		all = append(all, body[5:5+n:5+n])
		body = body[5+n:]
	}
	return all, nil
}

// Pattern is n bytes that depend on seed and position, so that a byte that is
// lost, doubled or of another stream shows.
func Pattern(seed, n int) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 12345 //nolint:gosec // any bits will do
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
