package relay

// Gauge is what a Call may be besides: it is told how much of its stream's body is
// under way here, that is, came in on one side and was not yet written on the
// other. It is told of a change once that is gaugeStep, so what waits may be less
// than so much more in each direction; what it was told adds up to nothing before
// Call.Done. It is called with locks held, by several goroutines, and must not block.
type Gauge interface {
	UnderWay(change int64)
}

// gaugeStep is how many bytes come or go before a Gauge hears of it: small calls cost
// nothing, a download a word for each large read.
const gaugeStep = 64 << 10

// measure has the gauge of a stream's call told from now on.
func (s *Stream) measure(call Call) {
	if g, ok := call.(Gauge); ok {
		s.gauge = g
		s.gauged.Store(true)
	}
}

// underWay counts n bytes more, or less, of what came in on h. h.conn.mu is held.
func (h *half) underWay(n int) {
	h.flight += int64(n)
	if d := h.flight - h.told; d >= gaugeStep || d <= -gaugeStep {
		h.tell(d)
	}
}

func (h *half) tell(d int64) {
	if s := h.stream; !h.untold && s.gauged.Load() {
		s.gauge.UnderWay(d)
		h.told += d
	}
}

// tellNoMore takes back what the gauge was told of h, for good.
func (h *half) tellNoMore() {
	if h.conn == nil {
		return
	}
	h.conn.mu.Lock()
	defer h.conn.mu.Unlock()
	if h.told != 0 {
		h.tell(-h.told)
	}
	h.untold = true
}
