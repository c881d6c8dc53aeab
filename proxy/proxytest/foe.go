package proxytest

import (
	"bufio"
	"bytes"
	"io"
	"net"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Foe is a client that floods: it sends what it is told as fast as it goes, keeps
// no rule, remembers nothing and cannot fail its test. One goroutine uses it. Once a
// write has failed the others do nothing.
type Foe struct {
	conn   net.Conn
	w      *bufio.Writer
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	next   uint32
	err    error
	done   chan struct{} // closed when nothing more is read
}

// NewFoe begins HTTP/2 on conn. A deaf one never reads.
func NewFoe(conn net.Conn, deaf bool, settings ...http2.Setting) *Foe {
	f := &Foe{conn: conn, w: bufio.NewWriter(conn), next: 1, done: make(chan struct{})}
	f.framer = http2.NewFramer(f.w, nil)
	f.framer.AllowIllegalWrites = true
	f.enc = hpack.NewEncoder(&f.block)
	_, f.err = io.WriteString(f.w, http2.ClientPreface)
	f.try(func() error { return f.framer.WriteSettings(settings...) })
	if deaf {
		close(f.done)
		return f
	}
	go func() {
		defer close(f.done)
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close() // what is being written fails
	}()
	return f
}

// Close closes the connection and waits for what reads from it.
func (f *Foe) Close() {
	_ = f.conn.Close()
	<-f.done
}

// Flush sends what was not sent yet, and says whether the connection still takes it.
func (f *Foe) Flush() bool {
	f.try(f.w.Flush)
	return f.err == nil
}

func (f *Foe) try(write func() error) {
	if f.err == nil {
		f.err = write()
	}
}

// Open opens a stream.
func (f *Foe) Open(fields []hpack.HeaderField, end bool) uint32 {
	id := f.next
	f.next += 2
	f.Headers(id, end, fields...)
	return id
}

// Headers sends a header block of one frame.
func (f *Foe) Headers(stream uint32, end bool, fields ...hpack.HeaderField) {
	f.block.Reset()
	for _, field := range fields {
		_ = f.enc.WriteField(field)
	}
	f.try(func() error {
		return f.framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: f.block.Bytes(), EndHeaders: true, EndStream: end,
		})
	})
}

// Data sends DATA and asks no window.
func (f *Foe) Data(stream uint32, end bool, b []byte) {
	f.try(func() error { return f.framer.WriteData(stream, end, b) })
}

// Frame sends any frame.
func (f *Foe) Frame(typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
	f.try(func() error { return f.framer.WriteRawFrame(typ, flags, stream, payload) })
}

// Reset sends RST_STREAM.
func (f *Foe) Reset(stream uint32) {
	f.try(func() error { return f.framer.WriteRSTStream(stream, http2.ErrCodeCancel) })
}

// Credit sends WINDOW_UPDATE; stream 0 is the connection.
func (f *Foe) Credit(stream, n uint32) {
	f.try(func() error { return f.framer.WriteWindowUpdate(stream, n) })
}
