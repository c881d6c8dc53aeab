package proxytest

import (
	"strings"

	"golang.org/x/net/http2"
)

// Flood is what a hostile engine does with a connection once a stream of it came: flood
// sends something again and again until it is enough.
type Flood func(b *Peer, id uint32, flood func(send func()))

// EngineFloods are floods by name.
func EngineFloods() map[string]Flood {
	value := strings.Repeat("y", 16_000)
	big := append([]byte{0x00, 1, 'x', 0x7f, 0x81, 0x7c}, value...) // a literal field: RFC 7541 section 6.2.2
	answer := Fields(":status", "200", "content-type", "application/grpc")
	headers := func(b *Peer, id uint32, piece []byte, flood func(func())) {
		b.Frame(http2.FrameHeaders, 0, id, []byte{0x88})
		flood(func() { b.Frame(http2.FrameContinuation, 0, id, piece) })
	}
	return map[string]Flood{
		"headers without end": func(b *Peer, id uint32, flood func(func())) { headers(b, id, big, flood) },
		"empty CONTINUATION":  func(b *Peer, id uint32, flood func(func())) { headers(b, id, nil, flood) },
		"trailers without end": func(b *Peer, id uint32, flood func(func())) {
			b.Headers(id, false, answer...)
			headers(b, id, big, flood)
		},
		"pings":    func(b *Peer, _ uint32, flood func(func())) { flood(func() { b.Ping([8]byte{}) }) },
		"settings": func(b *Peer, _ uint32, flood func(func())) { flood(func() { b.Settings() }) },
		"MAX_FRAME_SIZE of 0": func(b *Peer, _ uint32, flood func(func())) {
			flood(func() { b.Settings(http2.Setting{ID: http2.SettingMaxFrameSize}) })
		},
		"window updates": func(b *Peer, _ uint32, flood func(func())) { flood(func() { b.Credit(0, 1) }) },
		"unknown frames": func(b *Peer, _ uint32, flood func(func())) { flood(func() { b.Frame(0x42, 0, 0, big) }) },
		"interim answers": func(b *Peer, id uint32, flood func(func())) {
			flood(func() { b.Headers(id, false, Fields(":status", "103", "link", "x")...) })
		},
		"empty DATA": func(b *Peer, id uint32, flood func(func())) {
			b.Headers(id, false, answer...)
			flood(func() { b.Data(id, false, nil) })
		},
		"DATA past every window": func(b *Peer, id uint32, flood func(func())) {
			b.Headers(id, false, answer...)
			flood(func() { b.Data(id, false, make([]byte, 16384)) })
		},
	}
}
