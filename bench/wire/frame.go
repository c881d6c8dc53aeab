package wire

import (
	"encoding/binary"
	"errors"
)

// Preface is what a client sends first (RFC 9113, 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// HeaderLen is the length of a frame header in bytes.
const HeaderLen = 9

// MaxPayload is the largest payload of a frame that either end sends or takes,
// in bytes: the smallest limit that the protocol allows, so no settings exchange
// has to come first.
const MaxPayload = 16384

// DefaultWindow is the window, in bytes, of a connection and of each stream
// before any setting or update changes it.
const DefaultWindow = 65535

// Frame types (RFC 9113, 6).
const (
	Data         = 0x0
	Headers      = 0x1
	ResetStream  = 0x3
	SettingsType = 0x4
	Ping         = 0x6
	GoAway       = 0x7
	WindowUpdate = 0x8
	Continuation = 0x9
)

// Frame flags.
const (
	EndStream  = 0x1
	Ack        = 0x1
	EndHeaders = 0x4
	Padded     = 0x8
	Priority   = 0x20
)

// Settings that the benchmark sends or reads.
const (
	HeaderTableSize      = 0x1
	MaxConcurrentStreams = 0x3
	InitialWindowSize    = 0x4
)

var (
	// ErrContinuation says that a header block did not fit one frame.
	ErrContinuation = errors.New("header block continues in another frame: the benchmark does not read those")
	// ErrFrame says that a frame is not what the protocol allows.
	ErrFrame = errors.New("malformed frame")
)

// Header is a frame header.
type Header struct {
	// Length is the length of the payload in bytes.
	Length int
	Type   byte
	Flags  byte
	// Stream is 0 for frames of the connection.
	Stream uint32
}

// Setting is one parameter of a SETTINGS frame.
type Setting struct {
	ID    uint16
	Value uint32
}

// ParseHeader reads a frame header from the first HeaderLen bytes of b.
func ParseHeader(b []byte) Header {
	return Header{
		Length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		Type:   b[3],
		Flags:  b[4],
		Stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
	}
}

// AppendHeader appends the frame header h.
func AppendHeader(dst []byte, h Header) []byte {
	dst = append(dst, byte(h.Length>>16), byte(h.Length>>8), byte(h.Length), h.Type, h.Flags)
	return binary.BigEndian.AppendUint32(dst, h.Stream)
}

// AppendSettings appends a SETTINGS frame.
func AppendSettings(dst []byte, settings ...Setting) []byte {
	dst = AppendHeader(dst, Header{Length: 6 * len(settings), Type: SettingsType})
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint16(dst, s.ID)
		dst = binary.BigEndian.AppendUint32(dst, s.Value)
	}
	return dst
}

// AppendSettingsAck appends the acknowledgement of a SETTINGS frame.
func AppendSettingsAck(dst []byte) []byte {
	return AppendHeader(dst, Header{Type: SettingsType, Flags: Ack})
}

// AppendPingAck appends the answer to the PING frame with that payload.
func AppendPingAck(dst, payload []byte) []byte {
	dst = AppendHeader(dst, Header{Length: len(payload), Type: Ping, Flags: Ack})
	return append(dst, payload...)
}

// AppendWindowUpdate appends a WINDOW_UPDATE frame of n bytes; stream 0 is the connection.
func AppendWindowUpdate(dst []byte, stream uint32, n int) []byte {
	dst = AppendHeader(dst, Header{Length: 4, Type: WindowUpdate, Stream: stream})
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

// AppendReset appends a RST_STREAM frame.
func AppendReset(dst []byte, stream, code uint32) []byte {
	dst = AppendHeader(dst, Header{Length: 4, Type: ResetStream, Stream: stream})
	return binary.BigEndian.AppendUint32(dst, code)
}

// ParseSettings calls each for every parameter of a SETTINGS payload.
func ParseSettings(p []byte, each func(Setting)) error {
	if len(p)%6 != 0 {
		return ErrFrame
	}
	for ; len(p) > 0; p = p[6:] {
		each(Setting{ID: binary.BigEndian.Uint16(p), Value: binary.BigEndian.Uint32(p[2:])})
	}
	return nil
}

// ParseUint31 reads the number of a WINDOW_UPDATE, RST_STREAM or GOAWAY payload.
func ParseUint31(p []byte) (uint32, error) {
	if len(p) < 4 {
		return 0, ErrFrame
	}
	return binary.BigEndian.Uint32(p) &^ (1 << 31), nil
}

// Body returns what a DATA or HEADERS frame carries, without padding and priority.
func Body(h Header, p []byte) ([]byte, error) {
	if h.Flags&Padded != 0 {
		if len(p) == 0 || int(p[0]) >= len(p) {
			return nil, ErrFrame
		}
		p = p[1 : len(p)-int(p[0])]
	}
	if h.Type != Headers {
		return p, nil
	}
	if h.Flags&EndHeaders == 0 {
		return nil, ErrContinuation
	}
	if h.Flags&Priority != 0 {
		if len(p) < 5 {
			return nil, ErrFrame
		}
		p = p[5:]
	}
	return p, nil
}
