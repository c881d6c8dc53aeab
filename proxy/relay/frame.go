package relay

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const (
	frameHead    = 9     // bytes of a frame's head, RFC 9113 section 4.1
	maxFrame     = 16384 // the largest frame that we accept and send
	maxWindow    = 1<<31 - 1
	firstWindow  = 65535 // every window's size before SETTINGS, section 6.9.2
	maxStreamID  = 1<<31 - 1
	preface      = http2.ClientPreface
	flagAck      = http2.FlagPingAck
	flagEnd      = http2.FlagDataEndStream
	flagEndBlock = http2.FlagHeadersEndHeaders
	flagPadded   = http2.FlagDataPadded
	flagPriority = http2.FlagHeadersPriority
)

// head is a frame's head, read.
type head struct {
	size  int
	kind  http2.FrameType
	flags http2.Flags
	id    uint32
}

func readHead(b []byte) head {
	_ = b[8]
	return head{
		size:  int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:  http2.FrameType(b[3]),
		flags: http2.Flags(b[4]),
		id:    binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func (h head) put(b []byte) {
	_ = b[8]
	b[0], b[1], b[2] = byte(h.size>>16), byte(h.size>>8), byte(h.size)
	b[3], b[4] = byte(h.kind), byte(h.flags)
	binary.BigEndian.PutUint32(b[5:], h.id)
}

// appendHead adds a frame head to b.
func appendHead(b []byte, h head) []byte {
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	h.put(b[len(b)-frameHead:])
	return b
}

// appendUint32Frame adds a frame whose payload is one 32-bit number:
// WINDOW_UPDATE and RST_STREAM.
func appendUint32Frame(b []byte, kind http2.FrameType, id, v uint32) []byte {
	b = appendHead(b, head{size: 4, kind: kind, id: id})
	return binary.BigEndian.AppendUint32(b, v)
}

func appendPing(b []byte, ack bool, data []byte) []byte {
	h := head{size: 8, kind: http2.FramePing}
	if ack {
		h.flags = flagAck
	}
	return append(appendHead(b, h), data[:8]...)
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode) []byte {
	b = appendHead(b, head{size: 8, kind: http2.FrameGoAway})
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendSettings(b []byte, set ...http2.Setting) []byte {
	b = appendHead(b, head{size: 6 * len(set), kind: http2.FrameSettings})
	for _, s := range set {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

// unpad returns the payload of a DATA or HEADERS frame without its padding, and
// how many bytes stood before it (RFC 9113 section 6.1).
func unpad(h head, p []byte) (body []byte, before int, ok bool) {
	if h.flags&flagPadded == 0 {
		return p, 0, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, 0, false
	}
	return p[1 : len(p)-int(p[0])], 1, true
}
