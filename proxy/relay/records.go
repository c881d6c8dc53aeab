package relay

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Records is the transport that goes under a tls.Conn whose connection the
// relay is to own:
//
//	conn := tls.Server(relay.NewRecords(tcp), config)
//
// It never lets crypto/tls read past the end of a TLS record, so that nothing
// is left in buffers that the relay cannot see, and, once the relay has taken
// over, it collects the records of a batch and sends them with one write.
type Records struct {
	conn *net.TCPConn

	// Of the goroutine that reads: where it stands in the record (RFC 8446
	// section 5.1: five bytes of head, the last two its length).
	head [5]byte
	got  int // bytes of head seen
	left int // bytes of the record's body still to come
	in   *recordBuffer

	mu     sync.Mutex
	corked bool
	chunk  *chunk // what out stands in
	out    []byte // records not yet written
	home   *buffers
}

// mostSealed bounds the records that wait: a batch, and answers to key updates.
const mostSealed = 1 << 20

var errUnread = errors.New("relay: the peer does not read")

// NewRecords wraps a fresh connection.
func NewRecords(conn *net.TCPConn) *Records { return &Records{conn: conn} }

// bound says how much of a read of n bytes may be made without passing the end
// of the record.
func (r *Records) bound(n int) int {
	if r.left > 0 {
		return min(n, r.left)
	}
	return min(n, len(r.head)-r.got)
}

// advance follows the bytes that were handed out; they are within bound.
func (r *Records) advance(b []byte) {
	if r.left > 0 {
		r.left -= len(b)
		return
	}
	r.got += copy(r.head[r.got:], b)
	if r.got == len(r.head) {
		r.got, r.left = 0, int(r.head[3])<<8|int(r.head[4])
	}
}

// Read implements net.Conn.
func (r *Records) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.in != nil {
		return r.in.read(r, p)
	}
	n, err := r.conn.Read(p[:r.bound(len(p))])
	r.advance(p[:n])
	return n, err
}

// Write implements net.Conn.
func (r *Records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.corked {
		return r.conn.Write(p)
	}
	if r.chunk == nil {
		r.chunk = r.home.get(uint8(len(chunkSizes) - 1))
		r.out = r.chunk.buf[:0]
	}
	if len(r.out) > mostSealed {
		return 0, errUnread // a peer that has us answer its key updates and does not read
	}
	r.out = append(r.out, p...)
	return len(p), nil
}

// sealed is how many bytes of records wait.
func (r *Records) sealed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.out)
}

// Close implements net.Conn.
func (r *Records) Close() error { return r.conn.Close() }

// LocalAddr implements net.Conn.
func (r *Records) LocalAddr() net.Addr { return r.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (r *Records) RemoteAddr() net.Addr { return r.conn.RemoteAddr() }

// SetDeadline implements net.Conn.
func (r *Records) SetDeadline(t time.Time) error { return r.conn.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (r *Records) SetReadDeadline(t time.Time) error { return r.conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (r *Records) SetWriteDeadline(t time.Time) error { return r.conn.SetWriteDeadline(t) }
