package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// BackendConfig is what a Backend needs.
type BackendConfig struct {
	// Name is for the log and for errors.
	Name string
	// Dial makes one connection over which HTTP/2 is spoken at once: TCP, or TLS
	// with h2 agreed. Required.
	Dial func(ctx context.Context) (net.Conn, error)
	// Limits bounds each connection; the zero value is DefaultLimits.
	Limits Limits
	// MaxConns is how many connections there may be at once; more streams than
	// they take wait. Default 8.
	MaxConns int
	// DialTimeout bounds one attempt to connect. Default 5 s.
	DialTimeout time.Duration
	// ConnectTimeout is how long a stream waits for a connection that has room
	// for it; then it ends with Call.Broken. Default 30 s.
	ConnectTimeout time.Duration
	// Own: it is a part of this process, and not an engine.
	Own bool
	// Logger takes one line for each connection made and lost; nil is none.
	Logger *zap.Logger
}

// The waits between attempts to connect.
const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// errBusy: every connection is full, and there may be no more of them.
var errBusy = errors.New("all its connections are full")

// errNotDialed marks the failure of a stream that never had a connection.
var errNotDialed = errors.New("no connection to the backend")

// Backend is where streams are forwarded to: one address and the connections
// that stand to it. Connections are made when streams need them.
type Backend struct {
	cfg    BackendConfig
	limits Limits
	pool   buffers
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	tasks  sync.WaitGroup
	watch  watch

	mu      sync.Mutex
	conns   []*backendConn
	waiting []waiter    // oldest first
	late    *time.Timer // fires when the oldest has waited for ConnectTimeout; nil without any
	dialing bool        // connect runs
	failing bool        // the last attempt to connect failed,
	cause   error       // why,
	failed  time.Time   // and when
	closed  bool
}

type waiter struct {
	stream *Stream
	since  time.Time
}

// NewBackend checks cfg; it connects when the first stream comes.
func NewBackend(cfg BackendConfig) (*Backend, error) {
	if cfg.Dial == nil {
		return nil, errors.New("relay: a backend needs a dial function")
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, err
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 8
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	b := &Backend{cfg: cfg, limits: cfg.Limits.withDefaults()}
	b.watch.lim = &b.limits
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b, nil
}

// Close ends every connection and stream of the backend and waits for that.
func (b *Backend) Close() {
	b.mu.Lock()
	b.closed = true
	conns, left := slices.Clone(b.conns), b.waiting
	b.waiting = nil
	if b.late != nil && b.late.Stop() {
		b.tasks.Done()
	}
	b.mu.Unlock()
	b.stop()
	for _, bc := range conns {
		bc.fail()
	}
	var t turn
	for _, w := range left {
		w.stream.broken(errors.Join(errNotDialed, ErrClosed), &t)
	}
	t.settle()
	b.tasks.Wait()
	b.watch.done.Wait()
}

// assign finds a connection for s, or has it wait for one. s.mu is held.
func (b *Backend) assign(s *Stream, t *turn) {
	for {
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			t.failed = append(t.failed, failure{s, errors.Join(errNotDialed, ErrClosed)})
			return
		}
		bc := b.pick(s.client())
		if bc == nil {
			b.waiting = append(b.waiting, waiter{s, time.Now()})
			b.arm()
			b.dial()
			b.mu.Unlock()
			return
		}
		bc.live++
		b.mu.Unlock()
		if s.openOn(bc.conn, t) {
			return
		}
		b.retire(bc, t)
	}
}

// pick finds a connection for a stream of client cc, or returns nil where one is
// to be waited for. The streams of one client share a connection, which makes
// writes large; two busy clients do not, as long as there may be more
// connections, so that a download is read and written in one run and not cut up
// with others'. b.mu is held.
func (b *Backend) pick(cc *clientConn) *backendConn {
	last := cc.last.Load()
	if last != nil && last.backend == b && last.takes() && (last.owner == cc || last.live == 0) {
		last.owner = cc
		return last
	}
	var least *backendConn
	for _, bc := range b.conns {
		if bc.takes() && (least == nil || bc.live < least.live) {
			least = bc
		}
	}
	if least == nil || least.live > 0 && !b.failing && b.staying() < b.cfg.MaxConns {
		return nil
	}
	if least.live > 0 && b.failing && time.Since(b.failed) >= lastBackoff {
		b.dial() // nobody waits for it, and nothing else would find out that it works again
	}
	if least.live > 0 && last != nil && last.backend == b && last.takes() {
		least = last
	}
	if least.owner = cc; least.live > 0 {
		least.owner = nil
	}
	cc.last.Store(least)
	return least
}

// staying counts the connections that are not about to go. b.mu is held.
func (b *Backend) staying() (n int) {
	for _, bc := range b.conns {
		if !bc.leaving {
			n++
		}
	}
	return n
}

// takes: b.mu is held.
func (c *backendConn) takes() bool { return c.up && !c.leaving && c.live < c.room }

// without takes one stream off it. An idle connection has no owner, who may be gone:
// it would keep all that his connection held in memory. b.mu is held.
func (c *backendConn) without() {
	if c.live--; c.live == 0 {
		c.owner = nil
	}
}

// retire takes a connection that accepts no more streams out of the choice.
func (b *Backend) retire(bc *backendConn, t *turn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bc.leaving = true
	if bc.without(); bc.live == 0 {
		t.spent = append(t.spent, bc)
	}
}

// release gives the slot of a stream back. It may be called with the stream's
// lock held; who waits is served when t settles.
func (b *Backend) release(c *conn, t *turn) {
	bc, ok := c.role.(*backendConn)
	if !ok {
		return
	}
	b.mu.Lock()
	bc.without()
	spent := bc.leaving && bc.live == 0
	more := len(b.waiting) > 0
	b.mu.Unlock()
	if spent {
		t.spent = append(t.spent, bc)
	}
	if more {
		t.slots = append(t.slots, b)
	}
}

// serveWaiting hands free slots to the streams that wait, in order.
func (b *Backend) serveWaiting(t *turn) {
	for _, p := range b.placed() {
		s := p.stream
		s.mu.Lock()
		switch {
		case s.phase != waiting:
			b.release(p.conn.conn, t)
		case !s.openOn(p.conn.conn, t):
			b.retire(p.conn, t)
			b.assign(s, t)
		}
		s.mu.Unlock()
	}
}

type placing struct {
	stream *Stream
	conn   *backendConn
}

// placed takes those streams out of waiting that there is a connection for.
func (b *Backend) placed() (ready []placing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.waiting[:0]
	for _, w := range b.waiting {
		if bc := b.pick(w.stream.client()); bc != nil {
			bc.live++
			ready = append(ready, placing{w.stream, bc})
		} else {
			kept = append(kept, w)
		}
	}
	clear(b.waiting[len(kept):])
	b.waiting = kept
	if len(kept) > 0 {
		b.dial()
	}
	return ready
}

// forget takes a stream whose client has left out of waiting.
func (b *Backend) forget(s *Stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = slices.DeleteFunc(b.waiting, func(w waiter) bool { return w.stream == s })
}

// dial starts the goroutine that connects, unless it runs or there are
// connections enough. b.mu is held.
func (b *Backend) dial() {
	if b.dialing || b.closed || b.ctx.Err() != nil {
		return
	}
	if b.staying() >= b.cfg.MaxConns {
		return
	}
	b.dialing = true
	b.tasks.Add(1)
	go b.connect()
}

// connect tries until a connection stands or nobody waits any more. One that
// ends before the backend's SETTINGS came is a failed attempt like any other.
func (b *Backend) connect() {
	defer b.tasks.Done()
	if b.isFailing() {
		b.pause(firstBackoff)
	}
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		ctx, cancel := context.WithTimeout(b.ctx, b.cfg.DialTimeout)
		nc, err := b.cfg.Dial(ctx)
		cancel()
		if err == nil {
			err = b.adopt(nc)
		}
		if b.tried(err) {
			return
		}
		b.pause(wait)
	}
}

func (b *Backend) isFailing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failing
}

// pause waits, or until Close.
func (b *Backend) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
	}
}

// adopt begins to serve a new connection and waits until it is up.
func (b *Backend) adopt(nc net.Conn) error {
	bc := newBackendConn(b, nc)
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		bc.wire.close()
		return ErrClosed
	}
	b.conns = append(b.conns, bc)
	b.tasks.Add(1)
	b.mu.Unlock()
	go bc.serve()
	<-bc.settled
	b.mu.Lock()
	defer b.mu.Unlock()
	if !bc.up {
		return errors.Join(ErrLost, errors.New("it ended before its SETTINGS came"))
	}
	return nil
}

// tried notes how an attempt to connect ended, and says whether it was the last:
// it stood, or nobody waits any more. After a failure the streams that wait make
// do with the connections there are.
func (b *Backend) tried(err error) (last bool) {
	b.mu.Lock()
	b.failing, b.cause, b.failed = err != nil, err, time.Now()
	b.mu.Unlock()
	var t turn
	b.serveWaiting(&t)
	t.settle()
	b.mu.Lock()
	defer b.mu.Unlock()
	if last = err == nil || len(b.waiting) == 0 || b.closed; last {
		b.dialing = false
		if len(b.waiting) > 0 && !b.closed {
			b.dial()
		}
	}
	return last
}

// arm sets the timer that ends waiting. b.mu is held.
func (b *Backend) arm() {
	if b.late != nil || b.closed || len(b.waiting) == 0 {
		return
	}
	b.tasks.Add(1)
	b.late = time.AfterFunc(b.cfg.ConnectTimeout-time.Since(b.waiting[0].since), b.expire)
}

// expire ends the streams that have waited too long.
func (b *Backend) expire() {
	defer b.tasks.Done()
	b.mu.Lock()
	n := 0
	for n < len(b.waiting) && time.Since(b.waiting[n].since) >= b.cfg.ConnectTimeout {
		n++
	}
	late := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	cause := b.cause
	if cause == nil {
		cause = errBusy
	}
	b.late = nil
	b.arm()
	b.mu.Unlock()
	if n == 0 {
		return
	}
	b.cfg.Logger.Warn("backend has no connection with room", zap.String("backend", b.cfg.Name), zap.Int("streams", n), zap.Error(cause))
	var t turn
	for _, w := range late {
		w.stream.broken(fmt.Errorf("%w %s: %w", errNotDialed, b.cfg.Name, cause), &t)
	}
	t.settle()
}
