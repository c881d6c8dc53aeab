package relay

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/net/http2"
)

func (c *conn) fault(code http2.ErrCode, format string, a ...any) error {
	return &ConnectionError{Side: c.side, Code: code, Reason: fmt.Sprintf(format, a...)}
}

// calm ends a connection that sends too many frames of one kind.
func (c *conn) calm(what string) error {
	return c.fault(http2.ErrCodeEnhanceYourCalm, "too many %s", what)
}

// parse handles every whole frame in the chunk. A frame is handled as soon as it is
// whole; a message is never waited for.
func (c *conn) parse() error {
	if !c.greeted && c.side == ClientSide {
		if ok, err := c.parsePreface(); !ok || err != nil {
			return err
		}
	}
	for c.end-c.start >= frameHead {
		b := c.in.buf[c.start:c.end]
		h := readHead(b)
		if h.size > maxFrame {
			return c.fault(http2.ErrCodeFrameSize, "a frame of %d bytes", h.size)
		}
		if len(b) < frameHead+h.size {
			return nil
		}
		c.start += frameHead + h.size
		err := c.frame(h, b[:frameHead+h.size])
		if se, ok := err.(*StreamError); ok {
			err = c.streamFault(se)
		}
		if err != nil {
			return err
		}
		if c.turnedAway >= pauseAfter {
			c.turnedAway = 0
			c.turn.settle()
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// pauseAfter is how many streams a client may send on end that no engine gets, such as
// those that are refused, before no more are read for a millisecond.
const pauseAfter = 16

func (c *conn) parsePreface() (bool, error) {
	b := c.in.buf[c.start:c.end]
	n := min(len(b), len(preface))
	if string(b[:n]) != preface[:n] {
		return false, ErrNoPreface
	}
	if n < len(preface) {
		return false, nil
	}
	if len(b) < len(preface)+4 {
		return false, nil // the type of the first frame is looked at below
	}
	if http2.FrameType(b[len(preface)+3]) != http2.FrameSettings {
		return false, c.fault(http2.ErrCodeProtocol, "the first frame is not SETTINGS")
	}
	c.greeted = true
	c.start += len(preface)
	return true, nil
}

// streamFault resets the stream of a stream error and charges for it.
func (c *conn) streamFault(e *StreamError) error {
	c.mu.Lock()
	h := c.streams[e.ID]
	if h == nil {
		c.put(appendUint32Frame(nil, http2.FrameRSTStream, e.ID, uint32(e.Code)))
		c.gone.add(e.ID)
	}
	c.mu.Unlock()
	c.turn.touch(c)
	if h != nil {
		h.stream.faulted(h, e, &c.turn)
	}
	if c.side == ClientSide && !c.bud.resets.spend(c.lim.Resets) {
		return c.calm("stream errors")
	}
	return nil
}

// frame handles one whole frame; f is its head and payload.
func (c *conn) frame(h head, f []byte) error {
	p := f[frameHead:]
	if c.part.frames > 0 && h.kind != http2.FrameContinuation {
		return c.fault(http2.ErrCodeProtocol, "%v inside a header block", h.kind)
	}
	switch h.kind {
	case http2.FrameData:
		c.spoke()
		return c.dataFrame(h, f)
	case http2.FrameHeaders:
		c.spoke()
		return c.headersFrame(h, p)
	case http2.FrameContinuation:
		return c.continuation(h, p)
	case http2.FrameWindowUpdate:
		return c.windowFrame(h, p)
	case http2.FrameRSTStream:
		return c.rstFrame(h, p)
	case http2.FrameSettings:
		return c.settingsFrame(h, p)
	case http2.FramePing:
		return c.pingFrame(h, p)
	case http2.FrameGoAway:
		if h.id != 0 || len(p) < 8 {
			return c.fault(http2.ErrCodeProtocol, "a malformed GOAWAY")
		}
		last := binary.BigEndian.Uint32(p) & maxStreamID
		return c.role.goAway(last, http2.ErrCode(binary.BigEndian.Uint32(p[4:])))
	case http2.FramePriority:
		return c.priorityFrame(h, p)
	case http2.FramePushPromise:
		return c.fault(http2.ErrCodeProtocol, "PUSH_PROMISE")
	}
	if !c.bud.unknown.spend(c.lim.UnknownFrames) { // RFC 9113 section 5.5: ignored
		return c.calm("frames of unknown types")
	}
	return nil
}

func (c *conn) priorityFrame(h head, p []byte) error {
	if h.id == 0 {
		return c.fault(http2.ErrCodeProtocol, "PRIORITY on stream 0")
	}
	if !c.bud.priorities.spend(c.lim.Priorities) {
		return c.calm("PRIORITY frames")
	}
	if len(p) != 5 {
		return &StreamError{c.side, h.id, http2.ErrCodeFrameSize, "PRIORITY"}
	}
	if binary.BigEndian.Uint32(p)&maxStreamID == h.id {
		return &StreamError{c.side, h.id, http2.ErrCodeProtocol, "a stream that depends on itself"}
	}
	return nil
}

func (c *conn) pingFrame(h head, p []byte) error {
	if h.id != 0 {
		return c.fault(http2.ErrCodeProtocol, "PING on a stream")
	}
	if len(p) != 8 {
		return c.fault(http2.ErrCodeFrameSize, "a PING of %d bytes", len(p))
	}
	if h.flags&flagAck != 0 {
		c.pinged.Store(0)
		c.role.pong([8]byte(p))
		return nil
	}
	// gRPC measures the link with a ping when DATA comes: thousands in a second, from
	// a busy peer. One for each DATA frame of ours is free. It costs less than the frame
	// did, and they are saved up to one burst, so that no download buys a flood.
	c.mu.Lock()
	fair := c.fairPings > 0
	if fair {
		c.fairPings--
	}
	c.mu.Unlock()
	if !fair && !c.bud.pings.spend(c.lim.Pings) {
		return c.calm("PING frames")
	}
	c.mu.Lock()
	c.ctl = appendPing(c.ctl, true, p)
	c.mu.Unlock()
	return c.checkControl()
}

// checkControl ends the connection of a peer that makes us answer and does not
// read the answers.
func (c *conn) checkControl() error {
	c.turn.touch(c)
	c.mu.Lock()
	tooMany := len(c.ctl) > c.lim.PendingControl || c.uncovered > pendingFactor*c.lim.PendingControl
	c.mu.Unlock()
	if tooMany {
		return c.calm("frames that ask for an answer")
	}
	return nil
}

func (c *conn) rstFrame(h head, p []byte) error {
	if h.id == 0 || c.role.idle(h.id) {
		return c.fault(http2.ErrCodeProtocol, "RST_STREAM on an idle stream")
	}
	if len(p) != 4 {
		return c.fault(http2.ErrCodeFrameSize, "a RST_STREAM of %d bytes", len(p))
	}
	return c.role.rst(h.id, http2.ErrCode(binary.BigEndian.Uint32(p)))
}

// headersFrame begins a header block. The priority in it is checked and dropped.
func (c *conn) headersFrame(h head, p []byte) error {
	if h.id == 0 {
		return c.fault(http2.ErrCodeProtocol, "HEADERS on stream 0")
	}
	p, _, ok := unpad(h, p)
	if !ok {
		return c.fault(http2.ErrCodeProtocol, "padding longer than its frame")
	}
	itself := false
	if h.flags&flagPriority != 0 {
		if len(p) < 5 {
			return c.fault(http2.ErrCodeFrameSize, "HEADERS without its priority")
		}
		itself = binary.BigEndian.Uint32(p)&maxStreamID == h.id
		p = p[5:]
	}
	end := h.flags&flagEnd != 0
	if h.flags&flagEndBlock != 0 {
		err := c.block(h.id, end, p)
		if err == nil && itself {
			return &StreamError{c.side, h.id, http2.ErrCodeProtocol, "a stream that depends on itself"}
		}
		return err
	}
	c.part = blockPart{id: h.id, end: end, frames: 1, data: append(c.part.data[:0], p...)}
	return nil
}

func (c *conn) continuation(h head, p []byte) error {
	if c.part.frames == 0 || h.id != c.part.id {
		return c.fault(http2.ErrCodeProtocol, "CONTINUATION without its HEADERS")
	}
	c.part.frames++
	if c.part.frames > c.lim.Continuations+1 || len(c.part.data)+len(p) > 2*c.lim.HeaderBytes {
		return c.calm("CONTINUATION frames")
	}
	c.part.data = append(c.part.data, p...)
	if h.flags&flagEndBlock == 0 {
		return nil
	}
	part := c.part
	c.part = blockPart{data: part.data[:0]}
	if cap(part.data) > maxFrame {
		c.part.data = nil
	}
	return c.block(part.id, part.end, part.data)
}

// block decodes a whole header block and hands it to the role.
func (c *conn) block(id uint32, end bool, b []byte) error {
	kind := c.blockKind(id)
	hd, tooLarge, err := c.blocks.decode(b, kind)
	if err != nil {
		return c.fault(http2.ErrCodeCompression, "a header block that cannot be decoded")
	}
	return c.role.headers(hd, id, end, tooLarge)
}

func (c *conn) blockKind(id uint32) blockKind {
	c.mu.Lock()
	h := c.streams[id]
	c.mu.Unlock()
	switch {
	case c.side == ClientSide && h == nil:
		return requestBlock
	case c.side == BackendSide && (h == nil || !h.stream.answered):
		return responseBlock
	}
	return trailerBlock
}
