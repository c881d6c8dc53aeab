package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxIovec is how many pieces one writev takes.
const maxIovec = 256

// socketWire reads and writes a TCP socket itself, inside the callbacks of
// syscall.RawConn, for two things that net.Conn cannot do: hold no buffer while
// nothing comes, and write without ever waiting.
type socketWire struct {
	conn *net.TCPConn
	raw  syscall.RawConn

	// Of the reader goroutine.
	src     source
	readErr error
	onRead  func(fd uintptr) bool

	// Of whoever holds the connection's turn to write.
	iov      []unix.Iovec
	wrote    int
	writeErr error
	onWrite  func(fd uintptr) bool
}

func newSocketWire(c *net.TCPConn) wire {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	w := &socketWire{conn: c, raw: raw}
	w.onRead, w.onWrite = w.readAll, w.writeOnce
	return w
}

func (w *socketWire) read(src source) error {
	w.src = src
	for {
		err := w.raw.Read(w.onRead)
		if err == nil {
			return w.readErr
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		_ = w.conn.SetReadDeadline(time.Time{})
		src.tidy()
	}
}

func (w *socketWire) nudge() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) }

// readAll runs inside RawConn.Read: returning false waits until the socket is
// readable, true ends the reading.
func (w *socketWire) readAll(fd uintptr) bool {
	for {
		n, err := unix.Read(int(fd), w.src.space())
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			w.src.drained()
			return false
		case err != nil:
			w.readErr = err
			return true
		case n == 0:
			w.readErr = io.EOF
			return true
		}
		if w.readErr = w.src.filled(n); w.readErr != nil {
			return true
		}
	}
}

func (w *socketWire) write(bufs [][]byte) (int, error) {
	total := 0
	for len(bufs) > 0 {
		k := min(len(bufs), maxIovec)
		want := w.gather(bufs[:k])
		err := w.raw.Write(w.onWrite)
		clear(w.iov) // else what was written long ago stays in memory by it
		if err != nil {
			return total, err
		}
		total += w.wrote
		if w.writeErr != nil {
			return total, w.writeErr
		}
		if w.wrote < want {
			return total, errAgain
		}
		bufs = bufs[k:]
	}
	return total, nil
}

func (w *socketWire) gather(bufs [][]byte) (want int) {
	w.iov = w.iov[:0]
	for _, b := range bufs {
		if len(b) > 0 {
			want += len(b)
			w.iov = append(w.iov, unix.Iovec{Base: unsafe.SliceData(b)})
			w.iov[len(w.iov)-1].SetLen(len(b))
		}
	}
	return want
}

func (w *socketWire) writeOnce(fd uintptr) bool {
	w.wrote, w.writeErr = 0, nil
	if len(w.iov) == 0 {
		return true
	}
	for {
		n, _, errno := unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&w.iov[0])), uintptr(len(w.iov)))
		switch errno {
		case 0:
			w.wrote = int(n)
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			w.writeErr = errAgain
		default:
			w.writeErr = errno
		}
		return true
	}
}

func (w *socketWire) flush() error { return nil }

func (w *socketWire) wait() error { return waitWritable(w.raw) }

// waitWritable waits until the socket takes bytes again. The first callback
// asks poll(2), since readiness that was there before is not told again.
func waitWritable(raw syscall.RawConn) error {
	return raw.Write(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(p, 0)
		return err == nil && n == 1
	})
}

func (w *socketWire) end() { _ = w.conn.CloseWrite() }

func (w *socketWire) linger() {
	w.end()
	discard(w.conn)
}

// shut does not close the descriptor: net.Conn.Close waits for the callbacks of
// RawConn, and one of them may be what calls here.
func (w *socketWire) shut() {
	_ = w.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
}

func (w *socketWire) close() { _ = w.conn.Close() }
