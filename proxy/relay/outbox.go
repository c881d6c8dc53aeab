package relay

import (
	"slices"

	"golang.org/x/net/http2"
)

// What is committed here is in the order of the wire: it has passed every
// window and only waits for the socket. All functions want c.mu held unless
// they say otherwise.

// small returns n bytes of the arena and the chunk that they stand in, with a
// reference for the caller.
func (c *conn) small(n int) ([]byte, *chunk) {
	if c.arena == nil || c.arenaAt+n > len(c.arena.buf) {
		c.arena.drop()
		c.arena, c.arenaAt = c.pool.fitting(n), 0
	}
	b := c.arena.buf[c.arenaAt : c.arenaAt+n : c.arenaAt+n]
	c.arenaAt += n
	c.arena.hold()
	return b, c.arena
}

// itemBytes is what an item costs beside its bytes.
const itemBytes = 64

// add commits one item. An idle connection holds no array for them.
func (c *conn) add(it item) {
	if c.arrays == nil {
		c.takeArrays()
	}
	c.out = append(c.out, it)
}

// put commits a copy of b.
func (c *conn) put(b []byte) {
	if c.dead {
		return
	}
	d, k := c.small(len(b))
	c.uncovered += len(b) + itemBytes
	copy(d, b)
	c.add(item{b: d, chunk: k})
}

func (c *conn) encoder() *blockEncoder {
	if c.enc == nil {
		c.enc = newBlockEncoder()
	}
	return c.enc
}

// putHeaders commits a header block, in CONTINUATIONs where one frame is too small.
func (c *conn) putHeaders(id uint32, h *Header, end bool) {
	if c.dead {
		return
	}
	block := c.encoder().encode(h)
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = flagEnd
	}
	for first := true; first || len(block) > 0; first = false {
		n := min(len(block), c.peer.frame)
		if n == len(block) {
			flags |= flagEndBlock
		}
		d, k := c.small(frameHead + n)
		c.uncovered += len(d) + itemBytes
		head{size: n, kind: kind, flags: flags, id: id}.put(d)
		copy(d[frameHead:], block[:n])
		c.add(item{b: d, chunk: k})
		block, kind, flags = block[n:], http2.FrameContinuation, 0
	}
}

// open commits the first HEADERS that we send on h.
func (c *conn) open(h *half, hd *Header, end bool, t *turn) {
	if h.over || h.opened {
		return
	}
	c.putHeaders(h.id, hd, end)
	h.opened = true
	t.touch(c)
	if end {
		c.sent(h, t)
	}
}

// deliver queues a piece of body on h and sends what the windows allow.
func (c *conn) deliver(h *half, sg segment, t *turn) {
	if h.over || h.sentEnd || h.tail != nil {
		sg.drop()
		return
	}
	if sg.size() == 0 && !sg.end { // nothing but padding
		t.owe(sg.from, sg.credit)
		sg.drop()
		return
	}
	if h.queue.empty() && h.opened && c.fits(h, &sg) {
		c.commit(h, &sg, sg.size(), t)
		c.caughtUp(h)
		t.touch(c)
		return
	}
	h.queue.park(sg, c.pool)
	c.pump(h, t)
}

func (c *conn) fits(h *half, sg *segment) bool {
	n := int64(sg.size())
	return n <= h.sendWindow && n <= c.sendWindow && int(n) <= c.peer.frame
}

// caughtUp tells the other side that everything which came is on its way.
func (c *conn) caughtUp(h *half) {
	if o := h.other(); o != nil {
		o.drained.Store(true)
	}
}

// pump sends of h's queue what the windows allow, and its tail behind it.
func (c *conn) pump(h *half, t *turn) {
	if h.over || !h.opened {
		return
	}
	for !h.queue.empty() {
		sg := h.queue.first()
		n := int64(sg.size())
		room := min(h.sendWindow, int64(c.peer.frame))
		if n > 0 && room > 0 && c.sendWindow <= 0 {
			c.block1(h)
			return
		}
		if room = min(room, c.sendWindow); n > 0 && room <= 0 {
			return
		}
		t.touch(c)
		if n <= room || n == 0 {
			c.commit(h, sg, int(n), t)
			if h.over {
				return
			}
			h.queue.pop()
			continue
		}
		c.commit(h, sg, int(room), t)
	}
	c.caughtUp(h)
	c.putTail(h, t)
}

// block1 lets h wait for the connection's window.
func (c *conn) block1(h *half) {
	if !h.blocked {
		h.blocked = true
		c.blocked = append(c.blocked, h)
	}
}

// pumpBlocked hands a newly opened connection window out, in turn.
func (c *conn) pumpBlocked(t *turn) {
	for c.sendWindow > 0 && len(c.blocked) > 0 {
		h := c.blocked[0]
		c.blocked[0] = nil
		c.blocked = c.blocked[1:]
		h.blocked = false
		c.pump(h, t)
	}
}

// commit puts the first n bytes of a segment on the wire as one DATA frame. The
// frame goes as it came, with its head rewritten in place, where it
// goes whole; else it gets a head of its own.
func (c *conn) commit(h *half, sg *segment, n int, t *turn) {
	whole := n == sg.size()
	hd := head{size: n, kind: http2.FrameData, id: h.id}
	if whole && sg.end {
		hd.flags = flagEnd
	}
	h.sendWindow -= int64(n)
	c.sendWindow -= int64(n)
	h.sentData = true
	c.fairUpdates.Add(2)
	c.fairPings = min(c.fairPings+1, 10*c.lim.Pings)
	if c.dead {
		if whole { // else the rest of it stays in the queue, and may take more in
			sg.drop()
		}
		return
	}
	body := min(n, len(sg.body))
	if whole && sg.frame != nil {
		hd.put(sg.frame)
		c.add(item{b: sg.frame, chunk: sg.chunk, from: sg.from, credit: sg.credit})
	} else {
		b, k := c.small(frameHead)
		hd.put(b)
		c.add(item{b: b, chunk: k})
		c.putBody(sg, body, whole)
	}
	if suffix := n - body; suffix > 0 {
		c.add(item{b: sg.suffix[:suffix]})
		sg.suffix = sg.suffix[suffix:]
	}
	if whole {
		sg.chunk = nil // its reference went with the item
		if sg.end {
			c.sent(h, t)
		}
	}
}

// putBody commits n bytes of a segment's body and takes them off it.
func (c *conn) putBody(sg *segment, n int, whole bool) {
	if n == 0 && sg.credit == 0 {
		if whole {
			sg.drop()
		}
		return
	}
	it := item{b: sg.body[:n], chunk: sg.chunk, from: sg.from, credit: min(n, sg.credit)}
	if whole {
		it.credit = sg.credit
	} else if sg.chunk != nil {
		sg.chunk.hold()
	}
	sg.credit -= it.credit
	sg.body, sg.frame = sg.body[n:], nil
	c.add(it)
}

// finish sets what ends our direction of h, once its queue is sent.
func (c *conn) finish(h *half, tl *tail, t *turn) {
	if h.over || h.sentEnd || h.tail != nil {
		return
	}
	h.tail = tl
	if h.queue.empty() && (h.opened || tl.reset) {
		c.putTail(h, t)
	}
}

func (c *conn) putTail(h *half, t *turn) {
	tl := h.tail
	if tl == nil || h.over {
		return
	}
	t.touch(c)
	if h.sentEnd { // it went with the last piece of the queue
		if tl.reset || tl.also {
			c.resetHalf(h, tl.code, t)
		}
		return
	}
	switch {
	case tl.reset:
		c.resetHalf(h, tl.code, t)
		return
	case tl.trailer != nil:
		c.putHeaders(h.id, tl.trailer, true)
	default:
		d, k := c.small(frameHead)
		head{kind: http2.FrameData, flags: flagEnd, id: h.id}.put(d)
		c.add(item{b: d, chunk: k})
	}
	c.sent(h, t)
	if tl.also && !h.over {
		c.resetHalf(h, tl.code, t)
	}
}

// sent notes that our END_STREAM on h was committed.
func (c *conn) sent(h *half, t *turn) {
	h.sentEnd = true
	if h.recvEnd {
		c.remove(h, t)
	}
}

// resetHalf ends h with RST_STREAM and drops what waited on it.
func (c *conn) resetHalf(h *half, code uint32, t *turn) {
	if h.over {
		return
	}
	if h.opened || c.side == ClientSide {
		c.put(appendUint32Frame(nil, http2.FrameRSTStream, h.id, code))
		c.gone.add(h.id)
		t.touch(c)
	}
	h.reset = true
	c.remove(h, t)
}

// remove takes a half that is over out of the connection.
func (c *conn) remove(h *half, t *turn) {
	if h.over {
		return
	}
	h.over = true
	if !h.recvEnd {
		c.late += max(0, h.recvWindow)
		c.lateBlocks += mostBlocks
	}
	h.queue.clear()
	if h.blocked {
		h.blocked = false
		c.blocked = slices.DeleteFunc(c.blocked, func(x *half) bool { return x == h })
	}
	c.pool.grown.Add(int64(c.lim.StreamWindow) - h.window)
	delete(c.streams, h.id)
	t.over = append(t.over, h)
}

// resetRing remembers the last streams that we reset: frames for them may still
// be on their way and are ignored (RFC 9113 section 5.1).
type resetRing struct {
	ids  []uint32
	next int
}

const ringSize = 128

func (r *resetRing) add(id uint32) {
	if len(r.ids) < ringSize {
		r.ids = append(r.ids, id)
		return
	}
	r.ids[r.next%ringSize] = id
	r.next++
}

func (r *resetRing) has(id uint32) bool {
	for _, x := range r.ids {
		if x == id {
			return true
		}
	}
	return false
}
