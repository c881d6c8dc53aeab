package proxytest

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Patience is how long a wait lasts before it fails its test. It is no
// measure of speed: it only ends what would hang.
const Patience = 20 * time.Second

func patience() (<-chan time.Time, func()) {
	t := time.NewTimer(Patience)
	return t.C, func() { t.Stop() }
}

// PeerConfig says how a Peer behaves by itself. The zero value is a well-behaved
// peer with the settings of RFC 9113.
type PeerConfig struct {
	// Settings go into the Peer's first SETTINGS frame.
	Settings []http2.Setting
	// ManualWindow: no WINDOW_UPDATE is sent for the DATA that comes.
	ManualWindow bool
	// ManualAck: SETTINGS and PING are not acknowledged.
	ManualAck bool
	// Discard: DATA is counted and not kept.
	Discard bool
	// Lenient: what breaks RFC 9113 does not fail the test. Faults lists it.
	Lenient bool
	// Silent: neither preface nor SETTINGS are sent; a server does not wait for
	// the preface either.
	Silent bool
}

// Peer is one end of an HTTP/2 connection that a test plays by hand. Frames go
// out exactly as they are asked for, wrong ones too. What comes in is collected
// by a goroutine of the Peer's own and checked: frame sizes, flow control, stream
// states, the order of header blocks. A breach fails the test at its end.
//
// Methods may be used by any goroutine. Those that wait fail the test by t.Fatalf
// after Patience, or when the connection ended first.
type Peer struct {
	t      testing.TB
	cfg    PeerConfig
	conn   net.Conn
	client bool
	read   *http2.Framer

	wmu    sync.Mutex // orders what is written
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when anything below changes
	in       inbox
	werr     error // first failure of a write
	nextID   uint32
	barriers uint64 // of Barrier, so that each has a PING of its own
	acks     []func()
	onOpen   func(Stream)
	closing  bool
	done     sync.WaitGroup
}

// Client takes conn as the client's end: it sends the preface and SETTINGS.
func Client(t testing.TB, conn net.Conn, cfg PeerConfig) *Peer {
	p := newPeer(t, conn, cfg)
	p.client, p.nextID = true, 1
	if !cfg.Silent {
		p.Raw([]byte(http2.ClientPreface))
		p.Settings(cfg.Settings...)
	}
	p.start()
	return p
}

// Server takes conn as the server's end: it reads the preface and sends SETTINGS.
func Server(t testing.TB, conn net.Conn, cfg PeerConfig) *Peer {
	t.Helper()
	if !cfg.Silent {
		p, ok := TryServer(t, conn, cfg)
		if !ok {
			t.Fatalf("no client preface came")
		}
		return p
	}
	p := newPeer(t, conn, cfg)
	p.nextID = 2
	p.start()
	return p
}

// TryServer is Server for a connection that may be over before its preface
// came: it then closes it and says false. It always reads the preface.
func TryServer(t testing.TB, conn net.Conn, cfg PeerConfig) (*Peer, bool) {
	preface := make([]byte, len(http2.ClientPreface))
	_ = conn.SetReadDeadline(time.Now().Add(Patience))
	if _, err := io.ReadFull(conn, preface); err != nil || string(preface) != http2.ClientPreface {
		_ = conn.Close()
		return nil, false
	}
	_ = conn.SetReadDeadline(time.Time{})
	p := newPeer(t, conn, cfg)
	p.nextID = 2
	if !cfg.Silent {
		p.Settings(cfg.Settings...)
	}
	p.start()
	return p, true
}

func newPeer(t testing.TB, conn net.Conn, cfg PeerConfig) *Peer {
	p := &Peer{t: t, cfg: cfg, conn: conn, changed: make(chan struct{})}
	p.framer = http2.NewFramer(conn, nil)
	p.framer.AllowIllegalWrites = true
	p.read = http2.NewFramer(nil, conn)
	p.read.AllowIllegalReads = true
	p.read.SetMaxReadFrameSize(1<<24 - 1)
	p.enc = hpack.NewEncoder(&p.block)
	p.in.init()
	return p
}

func (p *Peer) start() {
	p.done.Add(2)
	go p.readLoop()
	go p.ackLoop()
	p.t.Cleanup(func() {
		p.Close()
		if p.cfg.Lenient {
			return
		}
		for _, f := range p.Faults() {
			p.t.Errorf("%s: peer broke RFC 9113: %s", p.name(), f)
		}
	})
}

func (p *Peer) name() string {
	if p.client {
		return "raw client"
	}
	return "raw server"
}

// Close closes the connection and waits for the Peer's goroutines.
func (p *Peer) Close() {
	p.mu.Lock()
	p.closing = true
	p.announce()
	p.mu.Unlock()
	_ = p.conn.Close()
	p.done.Wait()
}

// Hang has what comes from now on unanswered: SETTINGS and PING are not acknowledged.
func (p *Peer) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg.ManualAck = true
}

// Conn is the connection below, for what the methods cannot do.
func (p *Peer) Conn() net.Conn { return p.conn }

// announce wakes whoever waits. p.mu is held.
func (p *Peer) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait returns when done, called under p.mu, is true. It fails the test when
// the connection ended before, unless done allows for that.
func (p *Peer) wait(what string, done func() bool) {
	p.t.Helper()
	timer, stop := patience()
	defer stop()
	for {
		p.mu.Lock()
		ok, over, ch := done(), p.in.over, p.changed
		p.mu.Unlock()
		switch {
		case ok:
			return
		case over:
			p.t.Fatalf("%s: connection ended before %s\n%s", p.name(), what, p.history())
		}
		select {
		case <-ch:
		case <-timer:
			p.t.Fatalf("%s: no %s\n%s", p.name(), what, p.history())
		}
	}
}

// ackLoop writes what the reader owes the other side, so that the reader
// itself never waits for a writer.
func (p *Peer) ackLoop() {
	defer p.done.Done()
	for {
		p.mu.Lock()
		acks, over, ch := p.acks, p.closing || p.in.over, p.changed
		p.acks = nil
		p.mu.Unlock()
		for _, ack := range acks {
			ack()
		}
		if len(acks) > 0 {
			continue
		}
		if over {
			return
		}
		<-ch
	}
}
