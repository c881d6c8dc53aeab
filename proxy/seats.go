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

// refuseSeats says that OwnLimits.Calls are open, by its name in the configuration.
var refuseSeats = row(refuseStreams.over("limits.control_streams", pause))

// seats are the calls that are open of one kind of Sconce's own services. Whoever
// holds calls up has a fifth of them and leaves the others to the others. Who comes to
// find none takes that of the call which has held one up longest, by a request that
// does not end or by watching: otherwise anybody could shut out those who share an
// address with him, a probe of health among them.
type seats struct {
	most, each int  // 0 = no bound
	anybody    bool // a call gives way though its request is whole: it wants no credential

	mu    sync.Mutex
	came  uint64                  // calls, ever
	taken map[*serviceCall]uint64 // as came was
	from  map[netip.Addr]int      // by network; never 0
	over  bool                    // they are to end, and none is to come
}

func newSeats(most int, anybody bool) *seats {
	s := &seats{most: most, anybody: anybody, taken: make(map[*serviceCall]uint64), from: make(map[netip.Addr]int)}
	if most > 0 {
		s.each = max(most/5, 1)
	}
	return s
}

// enter takes a seat, which is followed by one leave, or says why there is none. gone
// has given up its own for that, and is to be cut; nil = none has.
func (s *seats) enter(c *serviceCall) (gone *serviceCall, refusal *Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	alone := s.each > 0 && s.from[c.from] >= s.each
	switch {
	case s.over:
		return nil, &refuseDraining
	case alone || s.most > 0 && len(s.taken) >= s.most:
		if gone = s.oldest(c.from, alone); gone == nil {
			return nil, &refuseSeats
		}
		s.remove(gone)
	}
	s.came++
	s.taken[c] = s.came
	s.from[c.from]++
	return gone, nil
}

// oldest is the call to end for another; nil = there is none. alone: of that address.
func (s *seats) oldest(from netip.Addr, alone bool) (gone *serviceCall) {
	for c, came := range s.taken {
		mayGo := s.givesWay(c) && (!alone || c.from == from)
		if mayGo && (gone == nil || came < s.taken[gone]) {
			gone = c
		}
	}
	return gone
}

func (s *seats) leave(c *serviceCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(c)
}

// remove takes a call out that may be out already. The caller holds s.mu.
func (s *seats) remove(c *serviceCall) {
	if _, in := s.taken[c]; !in {
		return
	}
	delete(s.taken, c)
	if s.from[c.from]--; s.from[c.from] == 0 {
		delete(s.from, c.from)
	}
}

// end has no more calls come, and returns those that are open and to give way.
func (s *seats) end() (gone []*serviceCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for c := range s.taken {
		if s.givesWay(c) {
			gone = append(gone, c)
		}
	}
	return gone
}

// givesWay says that a call may last for as long as its caller likes. The others are over
// when what they want is done.
func (s *seats) givesWay(c *serviceCall) bool { return s.anybody || !c.whole.Load() }

// EndOwn ends the calls of Sconce's own services that may last for ever, a watch of
// grpc.health.v1 among them, and those that still come, for a drain waits for all. To be
// called a little after it began, when whoever watches was told. A session that is being
// created has as long as a query.
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
