package relay

import "time"

// epoch is any moment before all that is measured.
var epoch = time.Now()

// ticks is a time in nanoseconds that only goes forward, unlike that of the wall.
func ticks() int64 { return int64(time.Since(epoch)) }

// budget counts one kind of cheap-to-send frame: a leaky bucket that holds ten
// seconds' worth. The zero value is empty.
type budget struct {
	level float32 // frames counted and not yet drained
	last  int64   // when level was brought up to date, in ticks
}

// spend counts one frame and says whether the peer is within perSecond. The
// clock is read only once a tenth of the burst is used.
func (b *budget) spend(perSecond int) bool {
	b.level++
	if b.level <= float32(perSecond) {
		return true
	}
	now := ticks()
	if b.last != 0 {
		b.level = max(0, b.level-float32(now-b.last)*1e-9*float32(perSecond))
	}
	b.last = now
	return b.level <= 10*float32(perSecond)
}

// budgets are those of one connection; the reader owns them.
type budgets struct {
	pings, settings, resets, empty, priorities, windows, unknown budget
}
