package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrContent says that bytes arrived which were not sent so.
var ErrContent = errors.New("wrong bytes arrived")

// Check compares a stream of messages with the template that it was made from,
// byte for byte. It belongs to one goroutine.
type Check struct {
	t   *Template
	off int // in the message that is coming in

	// Bytes and Messages are how much was right so far; a message counts when whole.
	Bytes    int64
	Messages int64
}

// NewCheck returns a Check for repetitions of t.
func NewCheck(t *Template) *Check { return &Check{t: t} }

// Feed compares the next bytes of the stream.
func (c *Check) Feed(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), c.t.size-c.off)
		if !c.t.equal(c.off, p[:n]) {
			return fmt.Errorf("message %d, within %d bytes from offset %d: %w", c.Messages, n, c.off, ErrContent)
		}
		c.Bytes += int64(n)
		p = p[n:]
		if c.off += n; c.off == c.t.size {
			c.off = 0
			c.Messages++
		}
	}
	return nil
}

// Partial says that the last message is not complete.
func (c *Check) Partial() bool { return c.off != 0 }

// Sink checks what a gateway may amend: each message may have further bytes at
// its end, which its prefix counts, and its first headRoom bytes may differ.
// It belongs to one goroutine.
type Sink struct {
	size   int
	fill   filling
	prefix [Prefix]byte
	off    int // in the message that is coming in
	end    int // of that message; known from Prefix bytes on

	// Messages counts whole messages, Bytes all bytes.
	Messages int64
	Bytes    int64
}

// NewSink returns a Sink for messages that were size bytes on the wire when
// they were sent.
func NewSink(size int) *Sink { return &Sink{size: size, fill: newFilling()} }

// Feed takes the next bytes of the stream.
func (s *Sink) Feed(p []byte) error {
	s.Bytes += int64(len(p))
	for len(p) > 0 {
		if s.off < Prefix {
			p = s.feedPrefix(p)
			continue
		}
		n := min(len(p), s.end-s.off)
		if err := s.compare(p[:n]); err != nil {
			return err
		}
		p = p[n:]
		if s.off += n; s.off == s.end {
			s.off = 0
			s.Messages++
		}
	}
	return nil
}

func (s *Sink) feedPrefix(p []byte) []byte {
	n := copy(s.prefix[s.off:], p)
	if s.off += n; s.off == Prefix {
		s.end = Prefix + int(binary.BigEndian.Uint32(s.prefix[1:]))
	}
	return p[n:]
}

// compare checks the part of p, which stands at s.off, that is filling.
func (s *Sink) compare(p []byte) error {
	if s.end < s.size || s.end > s.size+headRoom {
		return fmt.Errorf("message %d has %d bytes, %d were sent: %w", s.Messages, s.end, s.size, ErrContent)
	}
	from, to := max(s.off, headRoom), min(s.off+len(p), s.size)
	for from < to {
		n := min(to-from, maxRun)
		at := from - s.off
		if string(p[at:at+n]) != string(s.fill.run(from, n)) {
			return fmt.Errorf("message %d, within %d bytes from offset %d: %w", s.Messages, n, from, ErrContent)
		}
		from += n
	}
	return nil
}

// Partial says that the last message is not complete.
func (s *Sink) Partial() bool { return s.off != 0 }
