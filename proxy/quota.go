package proxy

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Quota is what one token, session, owner, organisation or process may do here. Zero is a
// limit that is not there.
type Quota struct {
	// Streams is how many may be open at once.
	Streams int
	// InFlight is how many bytes of their bodies may be under way when one more is to
	// begin: read from one side, and not yet written to the other.
	InFlight int64
	// Requests is how many may begin in a second, after a burst of ten times as many.
	Requests int
	// Artifacts is how many bytes of AddArtifacts may be sent in an hour; all of it
	// may come at once.
	Artifacts uint64
}

// Quotas keep one tenant from taking what others need. They count what passes
// through this process: replicas know nothing of each other. What goes past one
// is refused by its name. The defaults are in configs.
//
// A stream that is open is not touched when bytes in flight are past a quota: its own
// are bounded by its windows.
type Quotas struct {
	Token, Session, Owner, Org, Process Quota
}

func (q Quotas) negative() bool {
	for _, n := range []Quota{q.Token, q.Session, q.Owner, q.Org, q.Process} {
		if n.Streams < 0 || n.Requests < 0 || n.InFlight < 0 {
			return true
		}
	}
	return false
}

const (
	// requestBurst is how long a quota of requests may be saved up.
	requestBurst = 10 * time.Second
	// spareTimes is how many requests that free may come for each other one, and
	// spareLeast of how many others a second that is, at least: clients send one with
	// each batch of a result.
	spareTimes, spareLeast = 4, 250
	// artifactBurst is the same for bytes of artifacts.
	artifactBurst = time.Hour
	// artifactPatience is the longest that a client is asked to wait before it uploads
	// again by itself: JVM clients do so, in silence, for hours where they are told to.
	artifactPatience = time.Minute
)

// meter counts against one quota, and up the way against those that it is part of:
//
//	token -> session -> owner -> organisation -> process
//
// A stream that may pass costs two atomic operations for each; there is no lock.
type meter struct {
	up   *meter // nil = none
	name string
	// What there may be at most; 0 = no limit.
	mostStreams, mostInFlight int64
	mostArtifacts             uint64

	open     atomic.Int64
	inFlight atomic.Int64 // bytes, in steps of the relay's Gauge
	rate     bucket
	spare    bucket // of what frees
	sent     bucket // artifacts
}

func (m *meter) init(q Quota, name string, up *meter) {
	m.up, m.name = up, name
	m.mostStreams, m.mostInFlight, m.mostArtifacts = int64(q.Streams), q.InFlight, q.Artifacts
	if q.Requests > 0 {
		m.rate.cost = int64(time.Second) / int64(q.Requests)
		m.spare.cost = min(m.rate.cost, int64(time.Second)/spareLeast) / spareTimes
	}
}

// limit is the name of one of its limits, as configs has it.
func (m *meter) limit(of string) string { return "limits." + m.name + "_" + of }

// over says what limit a stream is past, "" = none, and how long until it is not.
type over struct {
	limit string
	why   *Refusal
	wait  time.Duration
}

// asking is what a stream asks of a meter.
type asking uint8

const (
	// asksMore: it is counted against each limit.
	asksMore asking = iota
	// asksLess: Method.Frees. Such streams may come until there are twice as many, and
	// by a rate of their own, which only a flood of them reaches.
	asksLess
	// asksNothing: a plan past a limit, which is read on to be refused. As asksLess, and
	// no rate counts it.
	asksNothing
)

// enter counts one more stream, which is followed by one leave where it may pass.
// now is in nanoseconds, of any clock that does not go back.
func (m *meter) enter(now int64, as asking) over {
	for at := m; at != nil; at = at.up {
		if o := at.count(now, as); o.limit != "" {
			for done := m; done != at; done = done.up {
				done.open.Add(-1)
				done.bucket(as).giveBack()
			}
			return o
		}
	}
	return over{}
}

// bucket is what a stream takes from; nil = nothing.
func (m *meter) bucket(as asking) *bucket {
	switch as {
	case asksMore:
		return &m.rate
	case asksLess:
		return &m.spare
	}
	return nil
}

func (m *meter) count(now int64, as asking) over {
	streams, inFlight := m.mostStreams, m.mostInFlight
	if as != asksMore {
		streams, inFlight = 2*streams, 2*inFlight
	}
	if inFlight > 0 && m.inFlight.Load() >= inFlight {
		return over{limit: m.limit("in_flight"), why: &refuseInFlight, wait: pause}
	}
	if n := m.open.Add(1); streams > 0 && n > streams {
		m.open.Add(-1)
		return over{limit: m.limit("streams"), why: &refuseStreams, wait: pause}
	}
	if b := m.bucket(as); b != nil {
		if wait := b.take(now, b.cost, int64(requestBurst)); wait > 0 {
			m.open.Add(-1)
			return over{limit: m.limit("requests"), why: &refuseRate, wait: wait}
		}
	}
	return over{}
}

func (m *meter) leave() {
	for ; m != nil; m = m.up {
		m.open.Add(-1)
	}
}

// underWay counts bytes that came, or went.
func (m *meter) underWay(change int64) {
	for ; m != nil; m = m.up {
		m.inFlight.Add(change)
	}
}

// uploadAfter says which limit of artifacts was reached, "" = none, and how long until
// there is room again. now is as for enter.
func (m *meter) uploadAfter(now int64) (limit string, wait time.Duration) {
	for at := m; at != nil; at = at.up {
		if lacks := at.sent.lacks(now, int64(artifactBurst)); at.mostArtifacts > 0 && lacks > wait {
			limit, wait = at.limit("artifacts"), lacks
		}
	}
	return limit, wait
}

// uploaded counts n bytes of artifacts.
func (m *meter) uploaded(now int64, n int) {
	for at := m; at != nil && n > 0; at = at.up {
		if at.mostArtifacts == 0 {
			continue
		}
		high, low := bits.Mul64(uint64(n), uint64(artifactBurst))
		cost, _ := bits.Div64(min(high, at.mostArtifacts-1), low, at.mostArtifacts)
		at.sent.spend(now, int64(max(cost, 1))) //nolint:gosec // some hours at most
	}
}

// rested says that the count of artifacts tells nothing any more.
func (m *meter) rested(now int64) bool { return m.sent.full.Load() <= now }

// row is the refusal of a stream that is past a limit.
func (o over) row() Refusal { return o.why.over(o.limit, o.wait) }

// bucket is a token bucket in one word: the time at which it is full again (the
// "theoretical arrival time" of GCRA, ITU-T I.371). The zero value is full.
type bucket struct {
	cost int64 // nanoseconds that one of what it counts takes to come back; 0 = no limit
	full atomic.Int64
}

// take takes what comes back in cost nanoseconds, or says how long to wait until
// there is as much. burst is how much there is when the bucket is full.
func (b *bucket) take(now, cost, burst int64) (wait time.Duration) {
	for cost > 0 {
		old := b.full.Load()
		next := max(old, now) + cost
		if next-now > burst {
			return time.Duration(next - now - burst)
		}
		if b.full.CompareAndSwap(old, next) {
			break
		}
	}
	return 0
}

// spend is take for what is counted after it happened: it may overdraw the bucket,
// and lacks says how long until it is no longer empty.
func (b *bucket) spend(now, cost int64) {
	for {
		old := b.full.Load()
		if b.full.CompareAndSwap(old, max(old, now)+cost) {
			return
		}
	}
}

func (b *bucket) lacks(now, burst int64) time.Duration {
	return time.Duration(max(b.full.Load()-now-burst, 0))
}

// giveBack undoes the take of one that was not used. A nil bucket gave nothing.
func (b *bucket) giveBack() {
	if b != nil && b.cost > 0 {
		b.full.Add(-b.cost)
	}
}
