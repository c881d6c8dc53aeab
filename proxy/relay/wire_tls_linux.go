package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cipherBatch is how many bytes of records are collected before they are
// written; the last record may go past it.
const cipherBatch = 160 << 10

// recordBuffer is what was read from the socket and not yet handed to
// crypto/tls. It holds a pooled chunk only while there is something in it.
type recordBuffer struct {
	raw   syscall.RawConn
	home  *buffers
	kind  uint8
	chunk *chunk
	data  []byte

	// noWait makes an empty buffer answer errNotNow: what follows a record may
	// be one without data (a key update), for which a batch must not wait.
	noWait bool
	err    error
	onRead func(fd uintptr) bool
}

// notNow is a temporary net.Error, which crypto/tls does not remember.
type notNow struct{}

func (notNow) Error() string   { return "relay: no record buffered" }
func (notNow) Timeout() bool   { return true }
func (notNow) Temporary() bool { return true }

// read hands out buffered bytes up to the end of the record.
func (b *recordBuffer) read(r *Records, p []byte) (int, error) {
	if len(b.data) == 0 {
		if b.noWait {
			return 0, notNow{}
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := 0
	for n < len(p) && len(b.data) > 0 {
		k := copy(p[n:n+r.bound(len(p)-n)], b.data)
		r.advance(b.data[:k])
		b.data, n = b.data[k:], n+k
		if r.left == 0 && r.got == 0 {
			break // the record is complete
		}
	}
	if len(b.data) == 0 {
		b.chunk.drop()
		b.chunk = nil
	}
	return n, nil
}

// fill waits for bytes, holding nothing meanwhile.
func (b *recordBuffer) fill() error {
	if err := b.raw.Read(b.onRead); err != nil {
		return err
	}
	return b.err
}

func (b *recordBuffer) readOnce(fd uintptr) bool {
	k := b.home.get(b.kind)
	for {
		n, err := unix.Read(int(fd), k.buf)
		if err == unix.EINTR {
			continue
		}
		if n > 0 {
			b.chunk, b.data, b.err = k, k.buf[:n], nil
			b.resize(n)
			return true
		}
		k.drop()
		if err == unix.EAGAIN {
			return false
		}
		if b.err = err; err == nil {
			b.err = io.EOF
		}
		return true
	}
}

// complete says whether a whole record lies in the buffer.
func (b *recordBuffer) complete() bool {
	return len(b.data) > 5 && len(b.data) >= 5+(int(b.data[3])<<8|int(b.data[4]))
}

// resize lets the size of the next read follow that of the last.
func (b *recordBuffer) resize(n int) {
	switch {
	case n == chunkSizes[b.kind] && int(b.kind) < len(chunkSizes)-1:
		b.kind++
	case b.kind > 0 && n <= chunkSizes[b.kind-1]/2:
		b.kind--
	}
}

// tlsWire carries a TLS connection that stands on Records.
type tlsWire struct {
	conn *tls.Conn
	rec  *Records
	sock *socketWire
	one  [1][]byte
	join []byte // small pieces become one record here
}

func newTLSWire(conn *tls.Conn, rec *Records) wire {
	sock, _ := newSocketWire(rec.conn).(*socketWire)
	if sock == nil {
		return &plainWire{conn: conn}
	}
	home := &buffers{}
	rec.mu.Lock()
	rec.corked, rec.home = true, home
	rec.mu.Unlock()
	rec.in = &recordBuffer{raw: sock.raw, home: home}
	rec.in.onRead = rec.in.readOnce
	return &tlsWire{conn: conn, rec: rec, sock: sock}
}

func (w *tlsWire) usePool(home *buffers) { w.rec.home, w.rec.in.home = home, home }

func (w *tlsWire) read(src source) error {
	full := false // the last record may not be read to its end
	for {
		if !full && len(w.rec.in.data) == 0 {
			src.drained()
			if err := w.rec.in.fill(); errors.Is(err, os.ErrDeadlineExceeded) {
				w.nudged(src)
				continue
			} else if err != nil {
				return err
			}
		}
		b := src.space()
		n, err := w.readBatch(b)
		full = n == len(b)
		if n > 0 {
			if err := src.filled(n); err != nil {
				return err
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.nudged(src)
		} else if err != nil {
			return err
		}
	}
}

func (w *tlsWire) nudged(src source) {
	_ = w.sock.conn.SetReadDeadline(time.Time{})
	src.tidy()
}

// readBatch reads one record, and those that lie buffered behind it.
func (w *tlsWire) readBatch(b []byte) (int, error) {
	const record = 16 << 10
	n, err := w.conn.Read(b)
	for err == nil && len(b)-n >= record && w.rec.in.complete() {
		w.rec.in.noWait = true
		k, more := w.conn.Read(b[n:])
		w.rec.in.noWait = false
		n += k
		if _, ok := more.(notNow); ok {
			break
		}
		err = more
	}
	return n, err
}

func (w *tlsWire) write(bufs [][]byte) (int, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	total := 0
	for len(bufs) > 0 {
		for len(bufs) > 0 && w.rec.sealed() < cipherBatch {
			piece, used := w.piece(bufs)
			if _, err := w.conn.Write(piece); err != nil {
				return total, err
			}
			total += len(piece)
			bufs = bufs[used:]
		}
		if err := w.flush(); err != nil {
			return total, err
		}
	}
	return total, nil
}

// piece joins small neighbours to about one record's worth, and leaves a run of
// large ones as they are.
func (w *tlsWire) piece(bufs [][]byte) (piece []byte, used int) {
	const record = 16 << 10
	if len(bufs) == 1 || len(bufs[0]) >= record {
		return bufs[0], 1
	}
	w.join = w.join[:0]
	for used < len(bufs) && len(w.join)+len(bufs[used]) <= 2*record {
		w.join = append(w.join, bufs[used]...)
		used++
	}
	return w.join, used
}

// flush writes the collected records.
func (w *tlsWire) flush() error {
	r := w.rec
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.out) == 0 {
		return nil
	}
	w.one[0] = r.out
	n, err := w.sock.write(w.one[:])
	w.one[0] = nil
	r.out = r.out[n:]
	if len(r.out) == 0 {
		r.chunk.drop()
		r.chunk, r.out = nil, nil
	}
	return err
}

// last writes what is sealed behind CloseWrite, which leaves a write deadline that
// has passed: RawConn.Write does nothing any more, and must not wait here.
func (w *tlsWire) last() {
	r := w.rec
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.out) == 0 {
		return
	}
	_ = w.sock.raw.Control(func(fd uintptr) {
		_, _ = unix.Write(int(fd), r.out) // what does not go now, goes nowhere
	})
	r.chunk.drop()
	r.chunk, r.out = nil, nil
}

func (w *tlsWire) wait() error { return w.sock.wait() }

func (w *tlsWire) nudge() { w.sock.nudge() }
func (w *tlsWire) end() {
	_ = w.conn.CloseWrite()
	w.last()
	w.sock.end()
}

func (w *tlsWire) linger() {
	w.end()
	discard(w.sock.conn)
}

func (w *tlsWire) shut() {
	_ = w.conn.CloseWrite()
	w.last()
	w.sock.shut()
}

func (w *tlsWire) close() { w.sock.close() }
