package load

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/sconce-dev/sconce/bench/payload"
	"github.com/sconce-dev/sconce/bench/wire"
)

// batch is how many DATA frames of an upload go out with one write at most.
const batch = 16

// Upload makes one AddArtifacts call of that many messages, each size bytes on
// the wire, and checks that the backend counted as many.
func (c *Conn) Upload(size int, messages int64) error {
	message, err := payload.Artifact(c.target.Spark, size)
	if err != nil {
		return err
	}
	st := c.open(payload.AddArtifactsPath, payload.Exact(payload.ArtifactResponse("")), 1,
		hpack.HeaderField{Name: payload.HeaderSize, Value: strconv.Itoa(size)})
	if err := c.push(st, message, messages); err != nil {
		return err
	}
	if err := c.until(func() bool { return st.done }); err != nil {
		return err
	}
	if st.extra != strconv.FormatInt(messages, 10) {
		return fmt.Errorf("%w: %d messages sent, the backend counted %q", ErrShort, messages, st.extra)
	}
	return nil
}

// push sends the request's body as credit allows.
func (c *Conn) push(st *stream, message *payload.Template, messages int64) error {
	if err := c.nc.SetDeadline(time.Now().Add(c.target.Timeout)); err != nil {
		return err
	}
	var (
		heads = make([]byte, 0, batch*wire.HeaderLen)
		vec   = make(net.Buffers, 0, 2*batch)
		off   int
	)
	for messages > 0 {
		if min(st.window, c.window) <= 0 {
			if err := c.step(); err != nil {
				return err
			}
			if st.done {
				return fmt.Errorf("%w: it was answered before the upload ended", ErrStatus)
			}
			continue
		}
		out, heads := vec[:0], heads[:0]
		for len(out) < 2*batch && messages > 0 && min(st.window, c.window) > 0 {
			n := min(int64(wire.MaxPayload-off%wire.MaxPayload), st.window, c.window)
			p := message.At(off, int(n))
			st.window -= int64(len(p))
			c.window -= int64(len(p))
			if off += len(p); off == message.Size() {
				off = 0
				messages--
			}
			from := len(heads)
			heads = wire.AppendHeader(heads, dataHeader(st.id, len(p), messages == 0))
			out = append(out, heads[from:], p)
		}
		if err := c.writeAll(out); err != nil {
			return err
		}
	}
	return nil
}

func dataHeader(id uint32, n int, last bool) wire.Header {
	h := wire.Header{Length: n, Type: wire.Data, Stream: id}
	if last {
		h.Flags = wire.EndStream
	}
	return h
}

// writeAll writes what waits in out and then the frames.
func (c *Conn) writeAll(frames net.Buffers) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if _, err := frames.WriteTo(c.nc); err != nil {
		return fmt.Errorf("write to the proxy: %w", err)
	}
	return nil
}
