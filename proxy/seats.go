package proxy

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// OwnLimits bound the calls of Sconce's own services, which no quota counts.
type OwnLimits struct {
	// Calls is how many may be open of services that want a credential, and as many
	// again of those that want none; a fifth of them from one address. 0 = no bound.
	Calls int
	// Within is how long a request to a gRPC service may take to come whole. 0 = 10 s.
	// By JSON the handler has bounds of its own.
	Within time.Duration
}

// limitCalls is the setting of OwnLimits.Calls.
const limitCalls = "limits.control_streams"

// seats are the calls that are open of one kind of Sconce's own services. Whoever
// holds calls up, by requests that do not end or answers that are not read, has a fifth
// of them and leaves the others to the others.
type seats struct {
	most, each int // 0 = no bound

	mu    sync.Mutex
	taken map[*serviceCall]struct{}
	from  map[netip.Addr]int // by network; never 0
	over  bool               // they are to end, and none is to come
}

func newSeats(most int) *seats {
	s := &seats{most: most, taken: make(map[*serviceCall]struct{}), from: make(map[netip.Addr]int)}
	if most > 0 {
		s.each = max(most/5, 1)
	}
	return s
}

// enter takes a seat, which is followed by one leave, or says why there is none.
func (s *seats) enter(c *serviceCall) *Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return &refuseDraining
	case s.most > 0 && (len(s.taken) >= s.most || s.from[c.from] >= s.each):
		row := refuseStreams.over(limitCalls, pause)
		return &row
	}
	s.taken[c] = struct{}{}
	s.from[c.from]++
	return nil
}

func (s *seats) leave(c *serviceCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taken, c)
	if s.from[c.from]--; s.from[c.from] == 0 {
		delete(s.from, c.from)
	}
}

// end has no more calls come, and returns those that are open.
func (s *seats) end() []*serviceCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return slices.Collect(maps.Keys(s.taken))
}

// EndOwn ends the calls of Sconce's own services that are open, and those that still
// come: nobody knows how long they would last, a watch of grpc.health.v1 for ever, and a
// drain waits for all. To be called a little after it began, when whoever watches was told.
func (r *Router) EndOwn() {
	for _, s := range r.seats {
		for _, c := range s.end() {
			c.stream.Cut(c.refuse(refuseDraining)) // outside the lock: it may end in leave
		}
	}
}

// networkOf is whom an address is of. Of IPv6 it is the network, since one machine has
// all of it.
func networkOf(from net.Addr) netip.Addr {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is6() {
		ip = netip.PrefixFrom(ip.WithZone(""), 64).Masked().Addr()
	}
	return ip
}
