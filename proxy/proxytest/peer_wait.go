package proxytest

import (
	"encoding/binary"
	"maps"
	"slices"

	"golang.org/x/net/http2"
)

// Stream returns what has come on a stream so far.
func (p *Peer) Stream(id uint32) Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot(id)
}

func (p *Peer) snapshot(id uint32) Stream {
	s := *p.in.stream(id)
	s.Blocks = slices.Clone(s.Blocks)
	s.Data = slices.Clip(s.Data)
	return s
}

// WaitStream waits until done is true of a stream.
func (p *Peer) WaitStream(id uint32, what string, done func(s *Stream) bool) Stream {
	p.t.Helper()
	var s Stream
	p.wait(what, func() bool {
		if !done(p.in.stream(id)) {
			return false
		}
		s = p.snapshot(id)
		return true
	})
	return s
}

// Response waits until a stream is over, by its end or by a reset.
func (p *Peer) Response(id uint32) Stream {
	p.t.Helper()
	return p.WaitStream(id, "end of the stream", (*Stream).Over)
}

// Headers1 waits for the first header block of a stream.
func (p *Peer) Headers1(id uint32) Stream {
	p.t.Helper()
	return p.WaitStream(id, "headers", func(s *Stream) bool { return len(s.Blocks) > 0 || s.gone() })
}

// Bytes waits for n bytes of DATA on a stream.
func (p *Peer) Bytes(id uint32, n int) Stream {
	p.t.Helper()
	return p.WaitStream(id, "data", func(s *Stream) bool { return s.Bytes >= n || s.gone() })
}

// Accept waits for the next stream that the other side opens.
func (p *Peer) Accept() Stream {
	p.t.Helper()
	var s Stream
	p.wait("new stream", func() bool {
		for _, id := range p.in.order {
			if st := p.in.stream(id); !st.accepted {
				st.accepted = true
				s = p.snapshot(id)
				return true
			}
		}
		return false
	})
	return s
}

// OnOpen has f called for each stream that the other side opens, by one
// goroutine, when its headers are there. It is set before the first one comes.
func (p *Peer) OnOpen(f func(s Stream)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onOpen = f
	for _, id := range p.in.order {
		s := p.snapshot(id)
		p.owe(func() { f(s) })
	}
	p.announce()
}

// TryAccept is Accept where a stream waits, and false where none does or the
// connection is over.
func (p *Peer) TryAccept() (Stream, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range p.in.order {
		if st := p.in.stream(id); !st.accepted {
			st.accepted = true
			return p.snapshot(id), true
		}
	}
	return Stream{}, false
}

// Nth waits for the i-th stream, from 0, that the other side opened and
// returns its id.
func (p *Peer) Nth(i int) uint32 {
	p.t.Helper()
	var id uint32
	p.wait("new stream", func() bool {
		if i >= len(p.in.order) {
			return false
		}
		id = p.in.order[i]
		return true
	})
	return id
}

// Opened is how many streams the other side opened.
func (p *Peer) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.in.order)
}

// WaitOpenedOrClosed is WaitOpened that also ends when the connection does.
func (p *Peer) WaitOpenedOrClosed(n int) {
	p.t.Helper()
	p.wait("new streams, or the end", func() bool { return len(p.in.order) >= n || p.in.over })
}

// Peak is how many streams of the other side were live at once at most, as
// MAX_CONCURRENT_STREAMS counts them.
func (p *Peer) Peak() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.peak
}

// WaitQuiet waits until no stream of the other side is live.
func (p *Peer) WaitQuiet() {
	p.t.Helper()
	p.wait("end of all streams", func() bool { return p.in.live == 0 })
}

// WaitOpened waits until the other side opened n streams.
func (p *Peer) WaitOpened(n int) {
	p.t.Helper()
	p.wait("new streams", func() bool { return len(p.in.order) >= n })
}

// Barrier sends a PING and waits for its echo: by then the other side has read
// everything that was sent before.
func (p *Peer) Barrier() {
	p.t.Helper()
	p.mu.Lock()
	var data [8]byte
	p.barriers++
	binary.BigEndian.PutUint64(data[:], p.barriers+1<<40)
	p.mu.Unlock()
	p.Ping(data)
	p.wait("echo of a ping", func() bool { return p.in.echoes[data] > 0 })
}

// WaitPong waits until some PING was acknowledged, or the connection ended.
func (p *Peer) WaitPong() {
	p.t.Helper()
	p.wait("echo of a ping", func() bool { return p.in.pings > 0 || p.in.over })
}

// Pings is how many acknowledged PINGs came.
func (p *Peer) Pings() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.pings
}

// WaitSettings waits until every SETTINGS frame sent was acknowledged.
func (p *Peer) WaitSettings() {
	p.t.Helper()
	p.wait("acknowledgement of SETTINGS", func() bool { return len(p.in.offers) == 0 })
}

// TheirSettings waits for the other side's SETTINGS and returns all that came.
func (p *Peer) TheirSettings() map[http2.SettingID]uint32 {
	p.t.Helper()
	var m map[http2.SettingID]uint32
	p.wait("SETTINGS", func() bool {
		m = maps.Clone(p.in.peerSet)
		return p.in.counts[http2.FrameSettings] > 0
	})
	return m
}

// WaitGoAway waits for the n-th GOAWAY, the first is 1.
func (p *Peer) WaitGoAway(n int) Frame {
	p.t.Helper()
	var f Frame
	p.wait("GOAWAY", func() bool {
		if len(p.in.goAways) < n {
			return false
		}
		f = p.in.goAways[n-1]
		return true
	})
	return f
}

// GoAways returns the GOAWAY frames that came.
func (p *Peer) GoAways() []Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.in.goAways)
}

// WaitClosed waits until the other side closed the connection and returns the
// code of its last GOAWAY, or -1 if it sent none.
func (p *Peer) WaitClosed() int {
	p.t.Helper()
	code := -1
	p.wait("end of the connection", func() bool {
		if n := len(p.in.goAways); n > 0 {
			code = int(p.in.goAways[n-1].Code)
		}
		return p.in.over
	})
	return code
}

// Closed says whether the connection is over.
func (p *Peer) Closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.over
}

// Count is how many frames of a type came; a header block counts once.
func (p *Peer) Count(typ http2.FrameType) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.counts[typ]
}

// Room is how many bytes of DATA may be sent on a stream now.
func (p *Peer) Room(stream uint32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.room(stream)
}

// Granted is the credit that came for a stream by WINDOW_UPDATE, in bytes; for
// stream 0 it is what is left of the connection's.
func (p *Peer) Granted(stream uint32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if stream == 0 {
		return p.in.sendConn
	}
	return p.in.stream(stream).granted
}

// WaitRoom waits until n bytes may be sent on a stream.
func (p *Peer) WaitRoom(stream uint32, n int) {
	p.t.Helper()
	p.wait("room to send", func() bool { return p.in.room(stream) >= n })
}
