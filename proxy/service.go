package proxy

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"go.uber.org/zap"
)

// Service is something that Sconce serves itself: to the router, one more
// backend. It checks the caller's credentials on its own; the router sees to it that
// there is one, and that a request is small and comes at once.
type Service struct {
	// Name labels it in metrics and logs; bounded, lower case.
	Name string
	// Prefix is how the paths begin that are its own; the longest one wins.
	// Nothing under the Spark Connect service can be taken by one.
	Prefix string
	// Backend reaches it. Its owner closes it.
	Backend *relay.Backend
	// GRPC: requests with a gRPC content type are for it too. Without, only plain
	// HTTP ones are: a catch-all for pages does not answer unknown methods.
	GRPC bool
	// Open: nobody needs a credential for it. Of the others only gRPC ones are asked
	// for one here: what is to be said to a call by JSON, its handler says in JSON.
	Open bool
}

type service struct {
	name    string
	prefix  string
	backend *relay.Backend
	grpc    bool
	open    bool
	seats   *seats // of all services that are open, or that are not
	number  int    // in the tally
}

type services []*service

// find returns the service of a path, or nil.
func (ss services) find(path string, grpc bool) (best *service) {
	if strings.HasPrefix(path, sparkService) {
		return nil
	}
	for _, s := range ss {
		if (s.grpc || !grpc) && strings.HasPrefix(path, s.prefix) && (best == nil || len(s.prefix) > len(best.prefix)) {
			best = s
		}
	}
	return best
}

const (
	// mostRequest bounds a request to a gRPC service of Sconce's own, in bytes with its
	// framing. The largest that is taken has 64 values of Spark configuration of 4 KiB,
	// with their keys less than 300 KiB.
	mostRequest = 512 << 10
	// mostOpenRequest is the same for who shows no credential: the name of a service.
	mostOpenRequest = 4 << 10
)

// credential says what the caller of a service lacks; nil = nothing that can be seen
// before the service looks at it.
func (s *service) credential(m *metadata) *Refusal {
	if s.open || !s.grpc {
		return nil
	}
	return RefuseCredential(m.authorization, m.authentication)
}

// most is how many bytes a request may have; 0 = the service itself sees to that.
func (s *service) most() uint64 {
	switch {
	case !s.grpc:
		return 0
	case s.open:
		return mostOpenRequest
	}
	return mostRequest
}

// serviceCall is the relay.Call of a stream to one of Sconce's own services: of what
// it says only the length is read.
type serviceCall struct {
	router  *Router
	service *service
	stream  stream
	grpc    bool
	from    netip.Addr
	late    *time.Timer // cuts a request that is not whole; nil = it may take its time
	whole   atomic.Bool // the request

	got    uint64 // bytes of the request so far
	prefix [relay.PrefixLen]byte
}

// serve forwards a stream to one of Sconce's own services.
func (r *Router) serve(s stream, q *request) {
	c := &serviceCall{router: r, service: q.service, stream: s, grpc: q.grpc, from: networkOf(s.Peer().Addr)}
	gone, refusal := c.service.seats.enter(c)
	if gone != nil {
		gone.stream.Cut(gone.refuse(refuseSeats))
	}
	if refusal != nil {
		r.refuse(s, q, refusal)
		return
	}
	r.tally.start(q.service.number)
	if c.service.grpc {
		c.late = time.AfterFunc(r.own.Within, c.expire)
	}
	s.Forward(q.service.backend, q.out, c)
}

// expire ends a call whose request has not come whole.
func (c *serviceCall) expire() { c.stream.Cut(c.refuse(RefuseBodySlow(c.router.own.Within))) }

// inTime has it expire no more.
func (c *serviceCall) inTime() {
	if c.late != nil {
		c.late.Stop()
	}
}

func (c *serviceCall) refuse(row Refusal) *relay.Reply {
	c.router.tally.refuse(row)
	if c.grpc {
		return row.Reply()
	}
	return row.PlainReply()
}

// Edit is part of relay.Call.
func (c *serviceCall) Edit(p []byte, end bool, e *relay.Edits) relay.Verdict {
	e.Keep(len(p))
	if c.tooLong(p) {
		e.Reply = c.refuse(RefuseBodySize(int(c.service.most()))) //nolint:gosec // a constant
		return relay.Cut
	}
	if end {
		c.whole.Store(true)
		c.inTime()
	}
	return relay.Pass
}

// tooLong counts p, and says whether the request is longer than it may be, or says that
// it will be.
func (c *serviceCall) tooLong(p []byte) bool {
	most := c.service.most()
	if c.got < relay.PrefixLen {
		copy(c.prefix[c.got:], p)
	}
	c.got += uint64(len(p))
	if most == 0 || c.got < relay.PrefixLen {
		return false
	}
	return c.got > most || uint64(binary.BigEndian.Uint32(c.prefix[1:])) > most
}

// Broken is part of relay.Call.
func (c *serviceCall) Broken(b relay.Break) *relay.Reply {
	c.router.log.Warn("own service failed", zap.String("service", c.service.name), zap.Error(b.Err))
	return c.refuse(refuseOwnAway)
}

// Done is part of relay.Call.
func (c *serviceCall) Done(st relay.Stats) {
	c.inTime()
	c.service.seats.leave(c)
	c.router.tally.finish(c.service.number, st)
}
