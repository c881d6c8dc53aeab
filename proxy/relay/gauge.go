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

// underWay is how many bytes came in on h and were not yet written to the other side:
// what its window lacks, but for the credit that is only not sent yet.
func (h *half) underWay() int64 { return h.window - h.recvWindow - h.owed }

// weigh tells the gauge what has changed. h.conn.mu is held.
func (h *half) weigh() {
	d := h.underWay() - h.told
	if s := h.stream; (d >= gaugeStep || d <= -gaugeStep) && s.gauged.Load() {
		s.gauge.UnderWay(d)
		h.told += d
	}
}

// weighNoMore takes back what the gauge was told, and tells it no more. s.mu is held.
func (s *Stream) weighNoMore() {
	if !s.gauged.Swap(false) {
		return
	}
	for _, h := range []*half{&s.front, s.back} {
		if h.conn == nil {
			continue
		}
		h.conn.mu.Lock()
		if h.told != 0 {
			s.gauge.UnderWay(-h.told)
			h.told = 0
		}
		h.conn.mu.Unlock()
	}
}
