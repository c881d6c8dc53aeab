package proxytest

import (
	"fmt"
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Stream is what came in on one stream.
type Stream struct {
	ID     uint32
	Blocks [][]hpack.HeaderField // header blocks in order: headers, trailers
	Data   []byte                // nil with PeerConfig.Discard
	Bytes  int                   // bytes of DATA
	Frames int                   // frames of DATA
	Ended  bool                  // END_STREAM came
	Reset  bool                  // RST_STREAM came, with Code
	Code   http2.ErrCode

	resetHere bool
	endedHere bool
	accepted  bool
	// Flow control, in bytes. May send and may receive count the changes since
	// the stream began; the initial windows are the inbox's.
	spent, granted    int // as a sender
	received, allowed int // as a receiver
}

func (s *Stream) gone() bool { return s.Reset || s.resetHere }

// live says that the stream counts against MAX_CONCURRENT_STREAMS.
func (s *Stream) live() bool { return !s.gone() && !(s.Ended && s.endedHere) }

// Over says that nothing more will come.
func (s *Stream) Over() bool { return s.Ended || s.gone() }

// Header returns a field of the first block that is not informational.
func (s *Stream) Header(name string) string {
	for _, b := range s.Blocks {
		if st := Value(b, ":status"); len(st) != 3 || st[0] != '1' {
			return Value(b, name)
		}
	}
	return ""
}

// Trailer returns a field of the last block.
func (s *Stream) Trailer(name string) string {
	if len(s.Blocks) == 0 {
		return ""
	}
	return Value(s.Blocks[len(s.Blocks)-1], name)
}

// inbox is what a Peer received, and the arithmetic of flow control in both
// directions. Peer.mu guards it.
type inbox struct {
	streams map[uint32]*Stream
	order   []uint32 // streams that the other side opened
	live    int      // how many of them are live,
	peak    int      // and the most there ever were
	frames  []Frame  // all but DATA's bytes, the newest keepFrames
	counts  map[http2.FrameType]int
	faults  []string
	over    bool
	err     error // why reading ended
	goAways []Frame
	pings   int // acknowledgements
	echoes  map[[8]byte]int

	dec     *hpack.Decoder
	open    *Frame // a header block without its END_HEADERS
	partial []byte

	offers   [][]http2.Setting // sent, not yet acknowledged
	maxFrame int               // what we take
	window   int               // what we gave a new stream: acknowledged
	recvConn int               // left of the connection window that we gave
	owedConn int               // credit for it that is about to be sent
	peerSet  map[http2.SettingID]uint32
	maxSend  int
	initial  int // window of a new stream towards the other side
	sendConn int // left of the connection window that we got
}

// keepFrames bounds the record of frames.
const keepFrames = 4096

func (in *inbox) init() {
	in.streams = map[uint32]*Stream{}
	in.counts = map[http2.FrameType]int{}
	in.echoes = map[[8]byte]int{}
	in.peerSet = map[http2.SettingID]uint32{}
	in.dec = hpack.NewDecoder(4096, nil)
	in.maxFrame, in.maxSend = maxFrame, maxFrame
	in.window, in.initial = 65535, 65535
	in.recvConn, in.sendConn = 65535, 65535
}

func (in *inbox) stream(id uint32) *Stream {
	s := in.streams[id]
	if s == nil {
		s = &Stream{ID: id}
		in.streams[id] = s
	}
	return s
}

// recount keeps live and peak; was is what live() said before a change.
func (in *inbox) recount(s *Stream, was bool) {
	switch now := s.live(); {
	case was && !now:
		in.live--
	case !was && now:
		in.live++
		in.peak = max(in.peak, in.live)
	}
}

func (in *inbox) fault(format string, args ...any) {
	if len(in.faults) < 20 {
		in.faults = append(in.faults, fmt.Sprintf(format, args...))
	}
}

func (in *inbox) keep(f Frame) {
	in.counts[f.Type]++
	f.Data = slices.Clip(f.Data)
	if f.Type == http2.FrameData {
		f.Data = nil
	}
	if len(in.frames) == keepFrames {
		in.frames = slices.Delete(in.frames, 0, keepFrames/2)
	}
	in.frames = append(in.frames, f)
}

// Sending.

func (in *inbox) room(id uint32) int {
	s := in.stream(id)
	return min(in.sendConn, in.initial+s.granted-s.spent)
}

func (in *inbox) spend(id uint32, n int) {
	in.sendConn -= n
	in.stream(id).spent += n
}

// Receiving: what this end granted.

func (in *inbox) offer(s []http2.Setting) {
	in.offers = append(in.offers, slices.Clone(s))
	for _, v := range s {
		if v.ID == http2.SettingHeaderTableSize {
			in.dec.SetAllowedMaxDynamicTableSize(max(v.Val, 4096))
		}
	}
}

func (in *inbox) acknowledged() {
	if len(in.offers) == 0 {
		in.fault("SETTINGS acknowledged that were not sent")
		return
	}
	for _, v := range in.offers[0] {
		switch v.ID {
		case http2.SettingInitialWindowSize:
			in.window = int(v.Val)
		case http2.SettingMaxFrameSize:
			in.maxFrame = int(v.Val)
		}
	}
	in.offers = in.offers[1:]
}

func (in *inbox) credit(id, n uint32) {
	if id == 0 {
		in.recvConn += int(n)
		return
	}
	in.stream(id).allowed += int(n)
}

// receive charges n bytes of DATA on the wire to the windows.
func (in *inbox) receive(s *Stream, n int) {
	in.recvConn -= n
	s.received += n
	if n == 0 {
		return
	}
	if in.recvConn < 0 {
		in.fault("DATA on stream %d: %d bytes past the connection window", s.ID, -in.recvConn)
	}
	// As gRPC C-core counts: what we offer holds from its acknowledgement on.
	if limit := in.window + s.allowed; s.received > limit {
		in.fault("DATA on stream %d: %d bytes past its window", s.ID, s.received-limit)
	}
}
