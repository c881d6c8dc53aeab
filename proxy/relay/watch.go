package relay

import (
	"sync"
	"time"
)

// idleFactor: a connection without streams is pinged that much more rarely.
const idleFactor = 10

// tidyAfter is how long a connection is silent before it gives up what only a
// busy one needs.
const tidyAfter = time.Second

// watch looks after the connections of one server or backend: it ends those
// that are silent (no preface in time, no answer to a ping) and has the readers of quiet
// ones tidy up. Its goroutine runs while there
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
	tick := time.NewTicker(w.interval())
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		w.mu.Lock()
		live := make([]*conn, 0, len(w.conns))
		for c := range w.conns {
			live = append(live, c)
		}
		w.mu.Unlock()
		now := time.Now()
		for _, c := range live {
			c.look(now)
		}
	}
}

// look ends or pings the connection if it has been silent for too long.
func (c *conn) look(now time.Time) {
	quiet := now.Sub(time.Unix(0, c.heard.Load()))
	if !c.alive.Load() {
		if now.Sub(c.born) >= c.lim.Preface {
			c.fail()
		}
		return
	}
	c.mu.Lock()
	streams := len(c.streams)
	c.mu.Unlock()
	if quiet >= tidyAfter && streams == 0 && c.untidy.Load() {
		c.wire.nudge()
	}
	if asked := c.pinged.Load(); asked != 0 {
		if quiet >= c.lim.PingTimeout && now.Sub(time.Unix(0, asked)) >= c.lim.PingTimeout {
			c.fail()
		}
		return
	}
	after := c.lim.PingAfter
	if quiet < after {
		return
	}
	if streams == 0 {
		after *= idleFactor
	}
	if quiet >= after {
		c.ping(now)
	}
}

func (c *conn) ping(now time.Time) {
	c.pinged.Store(now.UnixNano())
	var data [8]byte
	c.mu.Lock()
	c.ctl = appendPing(c.ctl, false, data[:])
	c.mu.Unlock()
	c.flushNow()
}
