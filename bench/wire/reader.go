package wire

import (
	"errors"
	"fmt"
	"io"
)

// Reader cuts a byte stream into frames. It belongs to one goroutine.
type Reader struct {
	src io.Reader
	buf []byte
	r   int // the unread bytes are buf[r:w]
	w   int
}

// NewReader returns a Reader whose buffer is size bytes, and at least one whole frame.
func NewReader(src io.Reader, size int) *Reader {
	return &Reader{src: src, buf: make([]byte, max(size, HeaderLen+MaxPayload))}
}

// Next returns the next frame. The payload is good until the next call. io.EOF
// is returned only between two frames.
func (r *Reader) Next() (Header, []byte, error) {
	if err := r.fill(HeaderLen); err != nil {
		return Header{}, nil, err
	}
	h := ParseHeader(r.buf[r.r:])
	if h.Length > MaxPayload {
		return h, nil, fmt.Errorf("%d byte payload, the limit is %d: %w", h.Length, MaxPayload, ErrFrame)
	}
	if err := r.fill(HeaderLen + h.Length); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return h, nil, err
	}
	p := r.buf[r.r+HeaderLen : r.r+HeaderLen+h.Length]
	r.r += HeaderLen + h.Length
	return h, p, nil
}

// Buffered says that Next will not have to wait: a whole frame is here.
func (r *Reader) Buffered() bool {
	n := r.w - r.r
	return n >= HeaderLen && n >= HeaderLen+ParseHeader(r.buf[r.r:]).Length
}

// Take reads exactly n bytes that are no frame: the preface.
func (r *Reader) Take(n int) ([]byte, error) {
	if err := r.fill(n); err != nil {
		return nil, err
	}
	p := r.buf[r.r : r.r+n]
	r.r += n
	return p, nil
}

// fill makes n unread bytes stand in the buffer. A small frame that came alone
// leaves the rest of the buffer untouched, so an idle connection's buffer is
// hardly resident.
func (r *Reader) fill(n int) error {
	if r.w-r.r >= n {
		return nil
	}
	if r.r == r.w {
		r.r, r.w = 0, 0
	} else if r.r+n > len(r.buf) || r.w == len(r.buf) {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	for r.w-r.r < n {
		k, err := r.src.Read(r.buf[r.w:])
		r.w += k
		if err == nil || r.w-r.r >= n {
			continue
		}
		if errors.Is(err, io.EOF) && r.w > r.r {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}
