package relay

import (
	"math"
	"sync"
	"time"
)

// idleFactor: a connection without streams is pinged that much more rarely.
const idleFactor = 10

// tidyAfter is how long a connection is silent before it gives up what only a
// busy one needs.
const tidyAfter = time.Second

// watch looks after the connections of one server or backend: it ends those
// that are silent (no preface in time, no answer to a ping), sends those away that are
// past their age and has the readers of quiet ones tidy up. Its goroutine runs while there
// are connections.
type watch struct {
	lim *Limits

	mu      sync.Mutex
	conns   map[*conn]struct{}
	running bool
	stop    chan struct{} // closed when the last connection goes
	done    sync.WaitGroup
}

// interval is how often the connections are looked at.
func (w *watch) interval() time.Duration {
	return max(min(w.lim.Preface, w.lim.PingAfter, w.lim.PingTimeout)/4, time.Millisecond)
}

func (w *watch) add(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns == nil {
		w.conns = map[*conn]struct{}{}
	}
	w.conns[c] = struct{}{}
	if !w.running {
		w.running = true
		w.stop = make(chan struct{})
		w.done.Add(1)
		go w.run(w.stop)
	}
}

func (w *watch) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	if len(w.conns) == 0 && w.running {
		w.running = false
		close(w.stop)
	}
}

func (w *watch) run(stop <-chan struct{}) {
	defer w.done.Done()
	interval := w.interval()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for last, skipped := ticks(), false; ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		now, was := time.Now(), last
		last = ticks()
		// So late means that nothing ran, the readers neither (a process or a machine was
		// stopped): what a peer said meanwhile may lie unread, so they have a turn first.
		// Not two, or one that is always late would never judge.
		if skipped = !skipped && time.Duration(last-was) > 2*interval; skipped {
			tick.Reset(interval)
			continue
		}
		w.mu.Lock()
		live := make([]*conn, 0, len(w.conns))
		for c := range w.conns {
			live = append(live, c)
		}
		w.mu.Unlock()
		for _, c := range live {
			c.look(now, last)
		}
	}
}

// look ends or pings the connection if it has been silent for too long. The round began
// at these times: what comes while it lasts counts for the next.
func (c *conn) look(now time.Time, at int64) {
	quiet := time.Duration(at - c.heard.Load())
	if !c.alive.Load() {
		if now.Sub(c.born) >= c.lim.Preface {
			c.fail()
		}
		return
	}
	if cc, ok := c.role.(*clientConn); ok {
		cc.grow(now)
	}
	c.mu.Lock()
	streams := len(c.streams)
	c.mu.Unlock()
	if quiet >= tidyAfter && streams == 0 && c.untidy.Load() {
		c.wire.nudge()
	}
	if asked := c.pinged.Load(); asked != 0 {
		if quiet >= c.lim.PingTimeout && time.Duration(at-asked) >= c.lim.PingTimeout {
			c.fail()
		}
		return
	}
	if quiet >= c.pingAfter(streams) {
		c.ping()
	}
}

// A gRPC server counts pings that come within five minutes of another, or without a
// stream, and ends the connection at the third since it last sent DATA or HEADERS
// (gRFC A8; grpc-java's KeepAliveEnforcer, grpc-go's keepalive.EnforcementPolicy).
// So a backend whose streams are silent is asked politePings times, and then only
// every politeAfter; without streams it is not asked: TCP's own keepalive finds a dead
// one, and the first stream on it does.
const (
	politePings = 2
	politeAfter = 5*time.Minute + 10*time.Second
)

// pingAfter is how long the connection may be silent now.
func (c *conn) pingAfter(streams int) time.Duration {
	after := c.lim.PingAfter
	switch {
	case c.side == ClientSide && streams == 0:
		return after * idleFactor
	case c.side == ClientSide:
		return after
	case streams == 0:
		return math.MaxInt64
	case c.asked.Load() >= politePings:
		return max(after, politeAfter)
	}
	return after
}

// spoke notes that the peer sent DATA or HEADERS.
func (c *conn) spoke() {
	if c.asked.Load() != 0 {
		c.asked.Store(0)
	}
}

func (c *conn) ping() {
	c.pinged.Store(ticks())
	c.asked.Add(1)
	var data [8]byte
	c.mu.Lock()
	c.ctl = appendPing(c.ctl, false, data[:])
	c.mu.Unlock()
	c.flushNow()
}
