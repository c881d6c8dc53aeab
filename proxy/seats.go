package proxy

import (
	"net"
	"net/netip"
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

// seats count the calls that are open of one kind of Sconce's own services. Whoever
// holds calls up, by requests that do not end or answers that are not read, has a fifth
// of them and leaves the others to the others.
type seats struct {
	most, each int // 0 = no bound

	mu    sync.Mutex
	taken int
	from  map[netip.Addr]int // by network; never 0
}

func newSeats(most int) *seats {
	s := &seats{most: most, from: make(map[netip.Addr]int)}
	if most > 0 {
		s.each = max(most/5, 1)
	}
	return s
}

// enter takes a seat, which is followed by one leave, or says that there is none.
func (s *seats) enter(from netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 0 && (s.taken >= s.most || s.from[from] >= s.each) {
		return false
	}
	s.taken++
	s.from[from]++
	return true
}

func (s *seats) leave(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.from[from]--; s.from[from] == 0 {
		delete(s.from, from)
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
