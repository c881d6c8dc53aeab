package proxytest

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/net/http2"
)

// readLoop collects frames until the connection ends. Then it closes this end
// too, as a peer does that has nothing more to say.
func (p *Peer) readLoop() {
	defer p.done.Done()
	for {
		f, err := p.read.ReadFrame()
		p.mu.Lock()
		if err != nil {
			p.ended(err)
			p.mu.Unlock()
			_ = p.conn.Close()
			return
		}
		p.take(f)
		p.announce()
		p.mu.Unlock()
	}
}

func (p *Peer) ended(err error) {
	p.in.over, p.in.err = true, err
	var stream http2.StreamError
	var conn http2.ConnectionError
	if errors.As(err, &stream) || errors.As(err, &conn) {
		p.in.fault("unreadable frame: %v", err)
	}
	if p.in.open != nil && errors.Is(err, io.EOF) && p.in.counts[http2.FrameGoAway] == 0 {
		p.in.fault("connection ended inside a header block")
	}
	p.announce()
}

// take handles one frame; p.mu is held.
func (p *Peer) take(raw http2.Frame) {
	in := &p.in
	f := copyFrame(raw)
	if f.Length > in.maxFrame {
		in.fault("%v of %d bytes, over the frame size of %d", f.Type, f.Length, in.maxFrame)
	}
	if in.open != nil && (f.Type != http2.FrameContinuation || f.Stream != in.open.Stream) {
		in.fault("%v inside a header block", f.Type)
	}
	switch raw := raw.(type) {
	case *http2.HeadersFrame:
		in.open, in.partial = &f, append([]byte(nil), raw.HeaderBlockFragment()...)
		p.headers(raw.HeadersEnded(), f.Length)
		return
	case *http2.ContinuationFrame:
		in.partial = append(in.partial, raw.HeaderBlockFragment()...)
		p.headers(raw.HeadersEnded(), f.Length)
		return
	}
	in.keep(f)
	switch f.Type {
	case http2.FrameData:
		p.data(f)
	case http2.FrameRSTStream:
		s := in.stream(f.Stream)
		was := p.counted(s) && s.live()
		s.Reset, s.Code = true, f.Code
		if was {
			in.recount(s, true)
		}
	case http2.FrameSettings:
		p.settings(f)
	case http2.FramePing:
		p.ping(f)
	case http2.FrameGoAway:
		in.goAways = append(in.goAways, f)
	case http2.FrameWindowUpdate:
		if f.Stream == 0 {
			in.sendConn += int(f.Credit)
		} else {
			in.stream(f.Stream).granted += int(f.Credit)
		}
	case http2.FramePushPromise:
		in.fault("PUSH_PROMISE")
	}
}

func (p *Peer) headers(ended bool, length int) {
	in := &p.in
	if in.open == nil {
		in.fault("CONTINUATION without HEADERS")
		return
	}
	f := in.open
	if f.Pieces > 0 {
		f.Length += length
	}
	f.Pieces++
	if !ended {
		return
	}
	in.open = nil
	fields, err := in.dec.DecodeFull(in.partial)
	if err != nil {
		in.fault("header block of stream %d: %v", f.Stream, err)
	}
	f.Fields = fields
	in.keep(*f)
	s, known := in.streams[f.Stream]
	if !known {
		s = in.stream(f.Stream)
	}
	p.checkHeaders(s, f)
	was := p.counted(s) && s.live()
	s.Blocks = append(s.Blocks, fields)
	s.Ended = s.Ended || f.End()
	if p.counted(s) {
		in.recount(s, was)
		if p.onOpen != nil && len(s.Blocks) == 1 {
			f, snap := p.onOpen, p.snapshot(s.ID)
			p.owe(func() { f(snap) })
		}
	}
}

// counted says that s is a stream that the other side opened.
func (p *Peer) counted(s *Stream) bool { return !p.client && s.ID%2 == 1 && len(s.Blocks) > 0 }

// checkHeaders: stream ids grow, and only what is open gets headers.
func (p *Peer) checkHeaders(s *Stream, f *Frame) {
	in := &p.in
	mine := f.Stream%2 == p.nextID%2
	switch {
	case s.Ended || s.Reset:
		in.fault("HEADERS on stream %d after its end", s.ID)
	case p.client && (!mine || f.Stream >= p.nextID):
		in.fault("HEADERS on stream %d, which was never opened", s.ID)
	case !p.client && mine:
		in.fault("HEADERS on stream %d, which a client cannot open", s.ID)
	case !p.client && len(s.Blocks) == 0:
		if n := len(in.order); n > 0 && in.order[n-1] > s.ID {
			in.fault("stream %d opened after stream %d", s.ID, in.order[n-1])
		}
		in.order = append(in.order, s.ID)
	case !p.client && !f.End():
		in.fault("trailers on stream %d without END_STREAM", s.ID)
	}
}

func (p *Peer) data(f Frame) {
	in := &p.in
	s := in.stream(f.Stream)
	if len(s.Blocks) == 0 || s.Ended || s.Reset {
		in.fault("DATA on stream %d, which is not open", s.ID)
	}
	in.receive(s, f.Length)
	s.Bytes += len(f.Data)
	s.Frames++
	was := p.counted(s) && s.live()
	s.Ended = s.Ended || f.End()
	if was {
		in.recount(s, true)
	}
	if !p.cfg.Discard {
		s.Data = append(s.Data, f.Data...)
	}
	if p.cfg.ManualWindow || f.Length == 0 {
		return
	}
	id, n := f.Stream, uint32(f.Length) //nolint:gosec // a frame is at most 16 MiB
	if !s.Over() {
		p.owe(func() { p.Credit(id, n) })
	}
	if back := 65535 - in.recvConn - in.owedConn; back > 65535/2 {
		in.owedConn += back
		p.owe(func() {
			p.mu.Lock()
			in.owedConn -= back
			p.mu.Unlock()
			p.Credit(0, uint32(back)) //nolint:gosec // at most a window
		})
	}
}

func (p *Peer) settings(f Frame) {
	in := &p.in
	if f.Flags.Has(http2.FlagSettingsAck) {
		in.acknowledged()
		return
	}
	var table *uint32
	for _, v := range f.Settings {
		in.peerSet[v.ID] = v.Val
		switch v.ID {
		case http2.SettingInitialWindowSize:
			in.initial = int(v.Val)
		case http2.SettingMaxFrameSize:
			in.maxSend = int(v.Val)
		case http2.SettingHeaderTableSize:
			table = &v.Val
		}
	}
	if p.cfg.ManualAck {
		return
	}
	p.owe(func() {
		if table != nil {
			p.TableSize(min(*table, 4096))
		}
		p.write(p.framer.WriteSettingsAck)
	})
}

func (p *Peer) ping(f Frame) {
	var data [8]byte
	copy(data[:], f.Data)
	if f.Flags.Has(http2.FlagPingAck) {
		p.in.pings++
		p.in.echoes[data]++
		return
	}
	if !p.cfg.ManualAck {
		p.owe(func() { p.write(func() error { return p.framer.WritePing(true, data) }) })
	}
}

// owe leaves something to write to ackLoop; p.mu is held.
func (p *Peer) owe(f func()) { p.acks = append(p.acks, f) }

// history is the end of what came, for a failure.
func (p *Peer) history() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := fmt.Sprintf("  ended=%v (%v) write=%v counts=%v\n", p.in.over, p.in.err, p.werr, p.in.counts)
	last := p.in.frames[max(0, len(p.in.frames)-20):]
	for i := range last {
		s += "  " + last[i].String() + "\n"
	}
	for _, f := range p.in.faults {
		s += "  fault: " + f + "\n"
	}
	return s
}

// Faults lists how the other side broke RFC 9113 so far.
func (p *Peer) Faults() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.in.faults)
}
