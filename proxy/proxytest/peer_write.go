package proxytest

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxFrame is the frame size that every peer must take.
const maxFrame = 16384

// write runs f under the write lock and remembers the first failure.
func (p *Peer) write(f func() error) {
	p.wmu.Lock()
	err := f()
	p.wmu.Unlock()
	if err == nil {
		return
	}
	p.mu.Lock()
	if p.werr == nil {
		p.werr = err
		p.announce()
	}
	p.mu.Unlock()
}

// Err is the first failure to write, or nil. A flood stops at it.
func (p *Peer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.werr
}

// Raw sends bytes as they are.
func (p *Peer) Raw(b []byte) {
	p.write(func() error { _, err := p.conn.Write(b); return err })
}

// Frame sends any frame.
func (p *Peer) Frame(typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
	p.write(func() error { return p.framer.WriteRawFrame(typ, flags, stream, payload) })
}

// Settings sends SETTINGS.
func (p *Peer) Settings(s ...http2.Setting) {
	p.mu.Lock()
	p.in.offer(s)
	p.mu.Unlock()
	p.write(func() error { return p.framer.WriteSettings(s...) })
}

// Ping sends PING.
func (p *Peer) Ping(data [8]byte) {
	p.write(func() error { return p.framer.WritePing(false, data) })
}

// Credit sends WINDOW_UPDATE; stream 0 is the connection.
func (p *Peer) Credit(stream, n uint32) {
	p.mu.Lock()
	p.in.credit(stream, n)
	p.mu.Unlock()
	p.write(func() error { return p.framer.WriteWindowUpdate(stream, n) })
}

// Reset sends RST_STREAM.
func (p *Peer) Reset(stream uint32, code http2.ErrCode) {
	p.change(stream, func(s *Stream) { s.resetHere = true })
	p.write(func() error { return p.framer.WriteRSTStream(stream, code) })
}

// ends notes that this end's side of a stream ends.
func (p *Peer) ends(stream uint32, end bool) {
	if end {
		p.change(stream, func(s *Stream) { s.endedHere = true })
	}
}

// change notes what this end does to a stream.
func (p *Peer) change(stream uint32, f func(s *Stream)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.in.stream(stream)
	was := s.live()
	f(s)
	if p.counted(s) {
		p.in.recount(s, was)
	}
	p.announce()
}

// GoAway sends GOAWAY.
func (p *Peer) GoAway(last uint32, code http2.ErrCode) {
	p.write(func() error { return p.framer.WriteGoAway(last, code, nil) })
}

// Priority sends PRIORITY.
func (p *Peer) Priority(stream uint32, param http2.PriorityParam) {
	p.write(func() error { return p.framer.WritePriority(stream, param) })
}

// Headers sends a header block, in CONTINUATION frames where it is longer than 16 KiB.
func (p *Peer) Headers(stream uint32, end bool, fields ...hpack.HeaderField) {
	p.ends(stream, end)
	p.write(func() error { return p.writeBlock(stream, end, p.encode(fields)) })
}

// Block sends bytes of HPACK as a header block whose frames have these sizes.
// The last frame carries the rest.
func (p *Peer) Block(stream uint32, end bool, block []byte, sizes ...int) {
	p.ends(stream, end)
	p.write(func() error { return p.writeBlock(stream, end, block, sizes...) })
}

// SplitHeaders is Headers with frames of these sizes.
func (p *Peer) SplitHeaders(stream uint32, end bool, fields []hpack.HeaderField, sizes ...int) {
	p.ends(stream, end)
	p.write(func() error { return p.writeBlock(stream, end, p.encode(fields), sizes...) })
}

// TableSize makes the Peer's HPACK encoder use a dynamic table of n bytes; the
// next block says so.
func (p *Peer) TableSize(n uint32) {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	p.enc.SetMaxDynamicTableSizeLimit(n)
	p.enc.SetMaxDynamicTableSize(n)
}

// encode is called under wmu; the block is valid until the next call.
func (p *Peer) encode(fields []hpack.HeaderField) []byte {
	p.block.Reset()
	for _, f := range fields {
		_ = p.enc.WriteField(f)
	}
	return p.block.Bytes()
}

func (p *Peer) writeBlock(stream uint32, end bool, block []byte, sizes ...int) error {
	var flags http2.Flags
	if end {
		flags |= http2.FlagHeadersEndStream
	}
	typ := http2.FrameHeaders
	for {
		n := min(len(block), maxFrame)
		if len(sizes) > 0 {
			n, sizes = min(sizes[0], len(block)), sizes[1:]
		}
		last := n == len(block) && len(sizes) == 0
		if last {
			flags |= http2.FlagHeadersEndHeaders
		}
		if err := p.framer.WriteRawFrame(typ, flags, stream, block[:n]); err != nil || last {
			return err
		}
		typ, flags, block = http2.FrameContinuation, 0, block[n:]
	}
}

// Open opens the next stream and returns its id.
func (p *Peer) Open(fields []hpack.HeaderField, end bool) uint32 {
	id := p.NextID()
	p.Headers(id, end, fields...)
	return id
}

// NextID takes the next stream id of this end.
func (p *Peer) NextID() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.nextID
	p.nextID += 2
	return id
}

// Data sends one DATA frame and asks no window.
func (p *Peer) Data(stream uint32, end bool, b []byte) {
	p.ends(stream, end)
	p.mu.Lock()
	p.in.spend(stream, len(b))
	p.mu.Unlock()
	p.write(func() error { return p.framer.WriteData(stream, end, b) })
}

// Padded is Data with padding.
func (p *Peer) Padded(stream uint32, end bool, b, pad []byte) {
	p.ends(stream, end)
	p.mu.Lock()
	p.in.spend(stream, len(b)+len(pad)+1)
	p.mu.Unlock()
	p.write(func() error { return p.framer.WriteDataPadded(stream, end, b, pad) })
}

// Send sends b as DATA within the windows and the frame size that the other
// side granted, and waits for credit where they are spent.
func (p *Peer) Send(stream uint32, b []byte, end bool) {
	p.t.Helper()
	if len(b) == 0 {
		p.Data(stream, end, nil)
		return
	}
	for len(b) > 0 {
		n := 0
		p.wait("credit to send", func() bool {
			n = min(p.in.room(stream), len(b), p.in.maxSend)
			return n > 0 || p.in.stream(stream).gone()
		})
		if n <= 0 {
			return
		}
		p.Data(stream, end && n == len(b), b[:n])
		b = b[n:]
	}
}

// Fill sends DATA from b until a window is spent, and returns how many bytes
// went. It does not wait.
func (p *Peer) Fill(stream uint32, b []byte) int {
	sent := 0
	for {
		p.mu.Lock()
		n := min(p.in.room(stream), len(b)-sent, p.in.maxSend)
		p.mu.Unlock()
		if n <= 0 {
			return sent
		}
		p.Data(stream, false, b[sent:sent+n])
		sent += n
	}
}
