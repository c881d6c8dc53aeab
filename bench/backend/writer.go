package backend

import (
	"net"

	"github.com/sconce-dev/sconce/bench/wire"
)

// turn is how many frames a stream may send before the next one has its turn.
const turn = 4

// batch is how many frames go out with one writev at most.
const batch = 16

// write is the writer goroutine: it sends what is long until the connection ends.
func (c *conn) write() {
	var (
		heads = make([]byte, 0, batch*64) // frame headers and trailers of one batch
		vec   = make(net.Buffers, 0, 2*batch+2)
	)
	for c.wait() {
		c.writing.Lock()
		c.mu.Lock()
		out := vec[:0]
		out = append(out, c.takeControl())
		out = c.fill(out, heads[:0])
		c.mu.Unlock()
		_, err := out.WriteTo(c.nc)
		c.writing.Unlock()
		if err != nil {
			closed(c.nc)
			return
		}
	}
}

// wait blocks until there is something to send; false means the connection is over.
func (c *conn) wait() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed && len(c.control) == 0 && (len(c.ready) == 0 || c.window <= 0) {
		c.wake.Wait()
	}
	return !c.closed
}

// fill appends at most one batch of frames. heads must not grow past its
// capacity while the batch is put together: the vector points into it. Under mu.
func (c *conn) fill(out net.Buffers, heads []byte) net.Buffers {
	for frames := 0; frames < batch && len(c.ready) > 0 && c.window > 0; {
		st := c.ready[0]
		for n := 0; n < turn && frames < batch && c.canSend(st); n++ {
			out, heads = c.appendData(out, heads, st)
			frames++
		}
		c.ready = c.ready[1:]
		if c.canSend(st) || st.sendable() && c.window <= 0 {
			c.ready = append(c.ready, st)
			continue
		}
		st.queued = false
		if st.left == 0 && !st.gone && !st.req.hold {
			from := len(heads)
			heads = c.appendTrailers(heads, st.id)
			out = append(out, heads[from:])
			delete(c.streams, st.id)
		}
	}
	return out
}

func (c *conn) canSend(st *stream) bool { return st.sendable() && c.window > 0 }

// sendable says that the stream has bytes and credit of its own.
func (st *stream) sendable() bool { return !st.gone && st.left > 0 && st.window > 0 }

// appendData appends one DATA frame of the stream.
func (c *conn) appendData(out net.Buffers, heads []byte, st *stream) (net.Buffers, []byte) {
	n := min(int64(wire.MaxPayload-st.off%wire.MaxPayload), st.window, c.window)
	p := st.rows.At(st.off, int(n))
	st.window -= int64(len(p))
	c.window -= int64(len(p))
	if st.off += len(p); st.off == st.rows.Size() {
		st.off = 0
		st.left--
	}
	from := len(heads)
	heads = wire.AppendHeader(heads, wire.Header{Length: len(p), Type: wire.Data, Stream: st.id})
	return append(out, heads[from:], p), heads
}
