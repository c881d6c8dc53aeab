package relay

import (
	"fmt"
	"time"
)

// Limits bounds what one connection may ask of the relay. The zero value of a
// field means its default, which DefaultLimits lists; there is no way to switch
// a bound off, only to raise it.
type Limits struct {
	// Streams is how many streams a client connection may have open
	// (SETTINGS_MAX_CONCURRENT_STREAMS). More are reset with REFUSED_STREAM.
	// Default 100.
	Streams int

	// HeaderBytes bounds one header list as RFC 9113 section 6.5.2 counts it:
	// name, value and 32 bytes per field. It holds towards clients and
	// backends. Default 64 KiB.
	HeaderBytes int

	// Continuations is how many CONTINUATION frames one header block may be
	// spread over; more end the connection. Default 32.
	Continuations int

	// StreamWindow is the flow-control window that a stream starts with, in
	// bytes: what one stalled stream can park. Default 256 KiB.
	StreamWindow int

	// MaxStreamWindow is how far the window of a stream grows whose receiver
	// keeps up. It shrinks back when the receiver stalls. Default 1 MiB.
	MaxStreamWindow int

	// GrownWindows bounds the bytes by which all windows of one server or
	// backend together have grown past StreamWindow. Default 64 MiB.
	GrownWindows int64

	// Held is how many body bytes a stream may send before its router has
	// decided. Default 256 KiB, and never more than StreamWindow.
	Held int

	// Pings, Settings, Resets, EmptyFrames, Priorities, WindowUpdates and
	// UnknownFrames are how many such frames a peer may send in one second,
	// after a burst of ten times as many; past it the connection ends with
	// ENHANCE_YOUR_CALM. Resets counts the streams that a client reset before their
	// answer began and those that it made the relay reset. Pings and window updates are counted only
	// where they outnumber the DATA frames sent to that peer. Defaults: 200, 20, 20, 100,
	// 200, 1000, 100.
	Pings, Settings, Resets, EmptyFrames, Priorities, WindowUpdates, UnknownFrames int

	// PendingControl bounds the bytes of control frames (acknowledgements and
	// the like) that wait for a peer that does not read; header blocks and resets
	// may be twice as many. Default 256 KiB.
	PendingControl int

	// Tarpit is how long the connection of a client that broke a rule, or one of these
	// bounds, stays, unread, once it was told so by GOAWAY. Default 1 s; below 0 = it ends
	// at once.
	Tarpit time.Duration

	// Preface is how long a new connection may take to send its preface and
	// SETTINGS. Default 5 s.
	Preface time.Duration

	// PingAfter is how long a connection may be silent before it is asked
	// whether it still lives, and PingTimeout how long the answer may take.
	// Idle client connections are kept. A backend is asked only while it has
	// streams, and no more often than gRPC servers bear: see politePings.
	// Defaults 30 s and 10 s.
	PingAfter, PingTimeout time.Duration

	// MaxMessage bounds the declared length of one gRPC message to a client, in
	// bytes; the stream of a longer one ends with Call.Broken. 0 means no
	// bound, which is the default.
	MaxMessage int64
}

// pendingFactor: see PendingControl.
const pendingFactor = 2

// DefaultLimits returns the defaults named at the fields.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	setInt := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	setTime := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	setInt(&l.Streams, 100)
	setInt(&l.HeaderBytes, 64<<10)
	setInt(&l.Continuations, 32)
	setInt(&l.StreamWindow, 256<<10)
	setInt(&l.MaxStreamWindow, max(1<<20, l.StreamWindow))
	setInt(&l.Held, min(256<<10, l.StreamWindow))
	setInt(&l.Pings, 200)
	setInt(&l.Settings, 20)
	setInt(&l.Resets, 20)
	setInt(&l.EmptyFrames, 100)
	setInt(&l.Priorities, 200)
	setInt(&l.WindowUpdates, 1000)
	setInt(&l.UnknownFrames, 100)
	setInt(&l.PendingControl, 256<<10)
	if l.GrownWindows == 0 {
		l.GrownWindows = 64 << 20
	}
	setTime(&l.Tarpit, time.Second)
	setTime(&l.Preface, 5*time.Second)
	setTime(&l.PingAfter, 30*time.Second)
	setTime(&l.PingTimeout, 10*time.Second)
	return l
}

// Validate says what is wrong with limits that a person wrote.
func (l Limits) Validate() error {
	l = l.withDefaults()
	switch {
	case l.Streams < 1 || l.Streams > 1<<20:
		return fmt.Errorf("relay: streams must be between 1 and %d, not %d", 1<<20, l.Streams)
	case l.HeaderBytes < 4<<10 || l.HeaderBytes > 16<<20:
		return fmt.Errorf("relay: header bytes must be between 4 KiB and 16 MiB, not %d", l.HeaderBytes)
	case l.StreamWindow < 16<<10 || l.StreamWindow > 1<<30:
		return fmt.Errorf("relay: the stream window must be between 16 KiB and 1 GiB, not %d", l.StreamWindow)
	case l.MaxStreamWindow < l.StreamWindow || l.MaxStreamWindow > 1<<30:
		return fmt.Errorf("relay: the largest stream window must be between the first one (%d) and 1 GiB, not %d", l.StreamWindow, l.MaxStreamWindow)
	case l.Held < 1<<10 || l.Held > l.StreamWindow:
		return fmt.Errorf("relay: held bytes must be between 1 KiB and the stream window (%d), not %d", l.StreamWindow, l.Held)
	case l.MaxMessage < 0:
		return fmt.Errorf("relay: the largest message must not be negative")
	}
	return nil
}
