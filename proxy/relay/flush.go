package relay

// One goroutine at a time writes on a connection: the one that set c.writing.
// Mostly that is the reader of the other side, inline, without waiting; when the
// socket is full it hands the turn to a writer goroutine, which waits. Others
// only commit and leave: the writer looks again before it ends.

// flush writes what is committed, as far as the socket takes it. c.mu is not held.
func (c *conn) flush(t *turn) {
	c.mu.Lock()
	if c.writing || c.dead || !c.pending() {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.mu.Unlock()
	if !c.writeAll(t) {
		return
	}
	c.mu.Lock()
	dead := c.dead
	if !dead {
		c.writers.Add(1)
		go c.writeRest()
	}
	c.mu.Unlock()
	if dead {
		c.giveUp()
	}
}

// pending: c.mu is held.
func (c *conn) pending() bool { return len(c.out) > 0 || len(c.ctl) > 0 }

// writeAll writes batches until nothing is left and gives the turn up, or until
// the socket is full: then the turn stays taken.
func (c *conn) writeAll(t *turn) (full bool) {
	for {
		for c.flying.bufAt < len(c.flying.bufs) {
			n, err := c.wire.write(c.flying.bufs[c.flying.bufAt:])
			c.flying.wrote(n, t)
			switch err {
			case nil:
			case errAgain:
				return true
			default:
				c.giveUp()
				return false
			}
		}
		if !c.nextBatch() {
			return false
		}
	}
}

// writeRest is the writer goroutine: it waits for the socket and goes on.
func (c *conn) writeRest() {
	defer c.writers.Done()
	var t turn
	for {
		if err := c.wire.wait(); err != nil {
			c.giveUp()
			return
		}
		switch c.wire.flush() {
		case nil:
		case errAgain:
			continue
		default:
			c.giveUp()
			return
		}
		full := c.writeAll(&t)
		t.settle()
		if !full {
			return
		}
	}
}

// nextBatch takes what was committed meanwhile; without any it gives the turn up.
func (c *conn) nextBatch() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || !c.pending() {
		c.quiet()
		if c.dead {
			c.dropOutput()
		}
		c.arena.drop()
		c.arena, c.arenaAt = nil, 0
		c.giveArrays()
		return false
	}
	if c.arrays == nil {
		c.takeArrays()
	}
	if c.flying.items == nil {
		c.flying.items, c.flying.bufs = c.arrays.flying[:0], c.arrays.bufs[:0]
	}
	c.ctl, c.out = c.flying.begin(c.ctl, c.out)
	c.uncovered = 0
	return true
}

// giveUp ends a connection that cannot be written.
func (c *conn) giveUp() {
	c.flying.drop()
	c.fail()
	c.mu.Lock()
	c.quiet()
	c.dropOutput()
	c.mu.Unlock()
}

// batch is what is being written. Whoever has the turn to write owns it.
type batch struct {
	lead  []byte // control frames, before everything else
	items []item
	bufs  [][]byte // the same bytes, neighbours in memory joined

	leadLeft, itemAt, itemLeft, bufAt int // how far it is written
}

// begin takes the pending frames and returns arrays to collect the next in.
func (b *batch) begin(ctl []byte, out []item) ([]byte, []item) {
	oldLead, oldItems := b.lead[:0], b.items[:0]
	b.lead, b.items, b.bufs = ctl, out, b.bufs[:0]
	b.leadLeft, b.itemAt, b.bufAt = len(ctl), 0, 0
	if len(ctl) > 0 {
		b.bufs = append(b.bufs, ctl)
	}
	for i := range out {
		b.join(out[i].b, i > 0 && out[i].chunk != nil && out[i].chunk == out[i-1].chunk)
	}
	if len(out) > 0 {
		b.itemLeft = len(out[0].b)
	}
	return oldLead, oldItems
}

// join adds bytes behind the last piece: to it, where they are its neighbours in
// memory. That makes the frames of a download that stand side by side in one
// read buffer a single run of bytes.
func (b *batch) join(p []byte, sameChunk bool) {
	if len(p) == 0 {
		return
	}
	if k := len(b.bufs) - 1; sameChunk && k >= 0 {
		last := b.bufs[k]
		if n := len(last); cap(last) >= n+len(p) && &last[:n+1][n] == &p[0] {
			b.bufs[k] = last[:n+len(p)]
			return
		}
	}
	b.bufs = append(b.bufs, p)
}

// wrote takes n written bytes off, drops what they stood in and owes their credit.
func (b *batch) wrote(n int, t *turn) {
	for k := n; k > 0 || b.bufAt < len(b.bufs) && len(b.bufs[b.bufAt]) == 0; {
		left := len(b.bufs[b.bufAt])
		if k < left {
			b.bufs[b.bufAt] = b.bufs[b.bufAt][k:]
			break
		}
		k -= left
		b.bufs[b.bufAt] = nil
		b.bufAt++
	}
	k := min(n, b.leadLeft)
	b.leadLeft -= k
	for n -= k; b.itemAt < len(b.items) && b.leadLeft == 0 && n >= b.itemLeft; {
		it := &b.items[b.itemAt]
		n -= b.itemLeft
		t.owe(it.from, it.credit)
		it.chunk.drop()
		*it = item{}
		if b.itemAt++; b.itemAt < len(b.items) {
			b.itemLeft = len(b.items[b.itemAt].b)
		}
	}
	if b.itemAt < len(b.items) {
		b.itemLeft -= n
	}
}

// drop lets go of what was not written.
func (b *batch) drop() {
	for ; b.itemAt < len(b.items); b.itemAt++ {
		b.items[b.itemAt].chunk.drop()
	}
	*b = batch{}
}

// takeArrays: c.mu is held. What is flying belongs to whoever writes, and takes its
// own at its next batch, by flying.items being nil: so an array that is there is
// never nil, be it empty. Were c.out nil, begin would leave flying.items so, and the
// next batch would fly in the array that c.out is collected in.
func (c *conn) takeArrays() {
	c.arrays = c.pool.getArrays()
	c.out = c.arrays.out[:0]
}

// giveArrays is called by whoever writes, with c.mu held.
func (c *conn) giveArrays() {
	const keep = 256 // bytes of lead
	if cap(c.flying.lead) > keep {
		c.flying.lead = nil
	}
	if c.arrays == nil || c.flying.items == nil || len(c.out) > 0 {
		return
	}
	*c.arrays = arrays{out: c.out, flying: c.flying.items, bufs: c.flying.bufs}
	c.pool.putArrays(c.arrays)
	c.arrays, c.out, c.flying.items, c.flying.bufs, c.flying.bufAt = nil, nil, nil, nil, 0
}

// dropOutput: c.mu is held, and nobody writes.
func (c *conn) dropOutput() {
	for i := range c.out {
		c.out[i].chunk.drop()
		c.out[i] = item{}
	}
	c.out, c.ctl = c.out[:0], nil
	c.arena.drop()
	c.arena, c.arenaAt = nil, 0
}
