package relay

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// errAgain: nothing more can be written without waiting.
var errAgain = errors.New("relay: would block")

// source is who a wire reads for: a conn.
type source interface {
	// space returns where to read to. It takes a buffer only now.
	space() []byte
	// filled is told how many bytes came; an error ends the reading.
	filled(n int) error
	// drained is told that nothing more is there to read for now.
	drained()
	// tidy is called after wire.nudge, while nothing comes.
	tidy()
}

// wire is the transport of one HTTP/2 connection.
type wire interface {
	// read hands src all that comes until the connection or src fails.
	read(src source) error
	// write writes bufs from the first on. It never waits: it returns errAgain
	// with what was written until then. It does not keep bufs.
	write(bufs [][]byte) (int, error)
	// wait waits until write can go on.
	wait() error
	// flush writes what write took and has not written, without waiting: nil
	// says that nothing is left.
	flush() error
	// nudge has a reader that waits call source.tidy. Anyone may call it.
	nudge()
	// end ends the sending side. Anyone may call it once everything is written.
	end()
	// linger ends the sending side and reads a little more, so that the peer
	// sees our last frames in place of a reset.
	linger()
	// shut ends the transport both ways; read and wait return then. Anyone may
	// call it, also from within source.
	shut()
	// close frees the transport when nobody uses it any more.
	close()
}

// newWire picks the transport for conn.
func newWire(conn net.Conn) wire {
	switch c := conn.(type) {
	case *net.TCPConn:
		if w := newSocketWire(c); w != nil {
			return w
		}
	case *tls.Conn:
		if r, ok := c.NetConn().(*Records); ok {
			return newTLSWire(c, r)
		}
	}
	return &plainWire{conn: conn}
}

// plainWire carries a connection of which nothing but net.Conn is known: the
// in-memory one of our own services, and those of tests. Every write is made by
// the writer goroutine, in wait.
type plainWire struct {
	conn net.Conn
	out  []byte // what wait is to write
	done int    // what wait has written of it
}

const plainBatch = 64 << 10

func (w *plainWire) read(src source) error {
	for {
		n, err := w.conn.Read(src.space())
		if n > 0 {
			if err := src.filled(n); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

func (w *plainWire) write(bufs [][]byte) (int, error) {
	n := w.done
	w.done, w.out = 0, w.out[:0]
	skip := n
	for _, b := range bufs {
		k := min(skip, len(b))
		skip -= k
		w.out = append(w.out, b[k:min(len(b), k+plainBatch-len(w.out))]...)
		if len(w.out) >= plainBatch {
			break
		}
	}
	if len(w.out) == 0 {
		return n, nil
	}
	return n, errAgain
}

func (w *plainWire) wait() (err error) {
	w.done, err = w.conn.Write(w.out)
	return err
}

func (w *plainWire) flush() error { return nil } // write takes nothing that wait has not written
func (w *plainWire) nudge()       {}
func (w *plainWire) end()         { _ = w.conn.Close() }
func (w *plainWire) linger()      { _ = w.conn.SetReadDeadline(time.Now().Add(lingerTime)) }
func (w *plainWire) shut()        { _ = w.conn.Close() }
func (w *plainWire) close()       { _ = w.conn.Close() }

// lingerTime bounds how long a connection that we end is still read, and
// lingerBytes how much.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

func discard(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
	var b [4096]byte
	for total := 0; total < lingerBytes; {
		n, err := conn.Read(b[:])
		total += n
		if err != nil {
			return
		}
	}
}
