package relay

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// settingsFrame follows the peer's settings (RFC 9113 section 6.5).
func (c *conn) settingsFrame(h head, p []byte) error {
	if h.id != 0 {
		return c.fault(http2.ErrCodeProtocol, "SETTINGS on a stream")
	}
	isAck := h.flags&flagAck != 0
	if len(p)%6 != 0 || isAck && len(p) > 0 {
		return c.fault(http2.ErrCodeFrameSize, "SETTINGS of %d bytes", len(p))
	}
	if !c.bud.settings.spend(c.lim.Settings) {
		return c.calm("SETTINGS frames")
	}
	if isAck {
		return nil
	}
	for q := p; len(q) > 0; q = q[6:] {
		if err := c.checkSetting(readSetting(q)); err != nil {
			return err
		}
	}
	if err := c.follow(p); err != nil {
		return err
	}
	c.greeted = true
	c.alive.Store(true)
	c.role.ready()
	return c.checkControl()
}

func readSetting(p []byte) http2.Setting {
	return http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(p)), Val: binary.BigEndian.Uint32(p[2:])}
}

func (c *conn) checkSetting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		code := http2.ErrCodeProtocol
		if s.ID == http2.SettingInitialWindowSize {
			code = http2.ErrCodeFlowControl
		}
		return c.fault(code, "a setting out of its range")
	}
	if s.ID == http2.SettingEnablePush && c.side == BackendSide && s.Val != 0 {
		return c.fault(http2.ErrCodeProtocol, "ENABLE_PUSH from a server")
	}
	return nil
}

// follow acknowledges the settings and applies them in one step: what was committed
// before the acknowledgement kept to the old ones, what comes behind it keeps to
// the new ones (RFC 9113 section 6.5.3). gRPC C-core counts that way: DATA that uses a
// larger window before the acknowledgement is for it a breach of the smaller one.
func (c *conn) follow(p []byte) error {
	var ack [frameHead]byte
	head{kind: http2.FrameSettings, flags: flagAck}.put(ack[:])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(ack[:])
	for ; len(p) > 0; p = p[6:] {
		switch s := readSetting(p); s.ID {
		case http2.SettingHeaderTableSize:
			c.encoder().setTableSize(s.Val)
		case http2.SettingMaxConcurrentStreams:
			c.peer.streams = int64(s.Val)
		case http2.SettingMaxFrameSize:
			c.peer.frame = min(int(s.Val), maxFrame)
		case http2.SettingInitialWindowSize:
			if err := c.shiftWindows(int64(s.Val)); err != nil {
				return err
			}
		}
	}
	return nil
}

// shiftWindows applies a new INITIAL_WINDOW_SIZE to every stream; a window may
// become negative (RFC 9113 section 6.9.2). c.mu is held.
func (c *conn) shiftWindows(size int64) error {
	by := size - c.peer.window
	c.peer.window = size
	for _, h := range c.streams {
		h.sendWindow += by
		if h.sendWindow > maxWindow {
			return c.fault(http2.ErrCodeFlowControl, "a stream's window over 2^31-1")
		}
		c.pump(h, &c.turn)
	}
	c.turn.touch(c)
	return nil
}

func (c *conn) windowFrame(h head, p []byte) error {
	if len(p) != 4 {
		return c.fault(http2.ErrCodeFrameSize, "a WINDOW_UPDATE of %d bytes", len(p))
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	if fair := c.fairUpdates.Load(); fair > 0 {
		c.fairUpdates.CompareAndSwap(fair, fair-1)
	} else if !c.bud.windows.spend(c.lim.WindowUpdates) {
		return c.calm("WINDOW_UPDATE frames")
	}
	if h.id == 0 {
		return c.connWindowFrame(n)
	}
	if c.role.idle(h.id) {
		return c.fault(http2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream")
	}
	if n == 0 {
		return &StreamError{c.side, h.id, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[h.id]
	if s == nil {
		return nil
	}
	if s.sendWindow += n; s.sendWindow > maxWindow {
		return &StreamError{c.side, h.id, http2.ErrCodeFlowControl, "a window over 2^31-1"}
	}
	c.pump(s, &c.turn)
	c.turn.touch(c)
	return nil
}

func (c *conn) connWindowFrame(n int64) error {
	if n == 0 {
		return c.fault(http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sendWindow += n; c.sendWindow > maxWindow {
		return c.fault(http2.ErrCodeFlowControl, "the connection's window over 2^31-1")
	}
	c.pumpBlocked(&c.turn)
	c.turn.touch(c)
	return nil
}

// dataFrame takes DATA in: it charges both windows, gives the connection's back
// at once, and hands the body to the stream.
func (c *conn) dataFrame(h head, f []byte) error {
	if h.id == 0 {
		return c.fault(http2.ErrCodeProtocol, "DATA on stream 0")
	}
	if c.role.idle(h.id) {
		return c.fault(http2.ErrCodeProtocol, "DATA on an idle stream")
	}
	body, before, ok := unpad(h, f[frameHead:])
	if !ok {
		return c.fault(http2.ErrCodeProtocol, "padding longer than its frame")
	}
	end := h.flags&flagEnd != 0
	if len(body) == 0 && !end && !c.bud.empty.spend(c.lim.EmptyFrames) {
		return c.calm("empty DATA frames")
	}
	from, err := c.charge(h, end)
	if from == nil || err != nil {
		return err
	}
	sg := segment{body: body, credit: h.size, from: from, end: end, mixed: c.isMixed(h.id)}
	if len(body) > 0 {
		sg.chunk = c.in
		sg.chunk.hold()
		if before == 0 && len(body) == h.size {
			sg.frame = f
		}
	}
	if c.side == ClientSide {
		return from.stream.request(sg, &c.turn)
	}
	from.stream.response(sg, &c.turn)
	return nil
}

// isMixed notes whose DATA is in the chunk.
func (c *conn) isMixed(id uint32) bool {
	if c.lastStream != id {
		c.mixed = c.mixed || c.lastStream != 0 && c.start > 2*frameHead
		c.lastStream = id
	}
	return c.mixed
}

// charge takes h.size bytes from the connection's and the stream's window. It
// returns nil for a stream that is over.
func (c *conn) charge(h head, end bool) (*half, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int64(h.size)
	if c.recvWindow -= n; c.recvWindow < 0 {
		return nil, c.fault(http2.ErrCodeFlowControl, "DATA past the connection's window")
	}
	if c.recvWindow < connWindow/2 {
		c.ctl = appendUint32Frame(c.ctl, http2.FrameWindowUpdate, 0, uint32(connWindow-c.recvWindow))
		c.recvWindow = connWindow
		c.turn.touch(c)
	}
	s := c.streams[h.id]
	if s == nil || s.recvEnd {
		return nil, c.tooLate(h.id, n)
	}
	if s.recvWindow -= n; s.recvWindow < 0 {
		return nil, &StreamError{c.side, h.id, http2.ErrCodeFlowControl, "DATA past the stream's window"}
	}
	s.weigh()
	if end {
		c.ended(s, &c.turn)
	}
	return s, nil
}

// tooLate takes n bytes of DATA on a stream that is over. They may have been on their
// way when we reset it. c.mu is held.
func (c *conn) tooLate(id uint32, n int64) error {
	if c.side == BackendSide {
		if c.late -= n; c.late < 0 {
			return c.fault(http2.ErrCodeFlowControl, "DATA past the windows of streams that are over")
		}
		return nil
	}
	if c.gone.has(id) {
		return nil
	}
	return &StreamError{c.side, id, http2.ErrCodeStreamClosed, "DATA on a closed stream"}
}

// ended notes the peer's END_STREAM on h. c.mu is held.
func (c *conn) ended(h *half, t *turn) {
	h.recvEnd = true
	if h.sentEnd {
		c.remove(h, t)
	}
}

// credit gives back n bytes of h's window: they were written to the other side.
// Updates go out for half a window at a time. A stream whose
// receiver keeps up is given a larger window, one that stalls gets its first one back.
func (c *conn) credit(h *half, n int, t *turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.owed += int64(n)
	h.weigh()
	if h.over || h.recvEnd || h.owed < h.window/2 {
		return
	}
	c.resizeWindow(h)
	if h.owed <= 0 {
		return
	}
	c.ctl = appendUint32Frame(c.ctl, http2.FrameWindowUpdate, h.id, uint32(h.owed))
	h.recvWindow += h.owed
	h.owed = 0
	t.touch(c)
}

// growAfter is how many bytes in a row a receiver must have taken as they came
// before its stream's window grows.
const growAfter = 8 << 20

func (c *conn) resizeWindow(h *half) {
	first := int64(c.lim.StreamWindow)
	grown := &c.pool.grown
	switch keepsUp := h.drained.Swap(false); {
	case !keepsUp && h.window > first:
		grown.Add(first - h.window)
		h.owed -= h.window - first
		h.window, h.streak = first, 0
	case !keepsUp:
		h.streak = 0
	case h.window < int64(c.lim.MaxStreamWindow):
		// A slow reader's own window and its socket take the first megabytes
		// at once: they are no proof.
		if h.streak += h.owed; h.streak < growAfter {
			return
		}
		h.streak = 0
		more := min(h.window, int64(c.lim.MaxStreamWindow)-h.window)
		if grown.Add(more) > c.lim.GrownWindows {
			grown.Add(-more)
			return
		}
		h.owed += more
		h.window += more
	}
}
