//go:build !race

// The race detector makes sync.Pool forget at random, so allocations are counted
// without it.

package relay

import (
	"testing"

	"golang.org/x/net/http2"
)

// sink takes everything at once.
type sink struct{ bytes int }

func (w *sink) read(source) error { select {} }
func (w *sink) write(bufs [][]byte) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	w.bytes += n
	return n, nil
}
func (w *sink) wait() error  { return nil }
func (w *sink) flush() error { return nil }
func (w *sink) nudge()       {}
func (w *sink) end()         {}
func (w *sink) linger()      {}
func (w *sink) shut()        {}
func (w *sink) close()       {}

// openPath is one stream between two connections whose windows are wide open.
type openPath struct {
	client, backend *conn
	out, up         *sink // what the client and the backend were sent
	stream          *Stream
	frame           []byte
}

func newOpenPath() *openPath {
	lim := DefaultLimits()
	pool := &buffers{}
	p := &openPath{out: &sink{}, up: &sink{}}
	p.client = newConn(ClientSide, p.out, pool, &lim)
	p.backend = newConn(BackendSide, p.up, pool, &lim)
	b := &Backend{limits: lim}
	cc := &clientConn{conn: p.client}
	bc := &backendConn{conn: p.backend, backend: b}
	cc.lastID.Store(1)
	p.client.role, p.backend.role = cc, bc
	p.client.greeted, p.backend.greeted = true, true
	p.backend.nextID = 3
	s := &Stream{server: &Server{limits: lim}, backend: b, phase: opened, answered: true, bodyLeft: -1}
	s.back0 = half{stream: s, conn: p.backend, id: 1, opened: true, window: 1 << 20}
	s.back = &s.back0
	s.front = half{stream: s, conn: p.client, id: 1, opened: true}
	p.client.streams[1], p.backend.streams[1] = &s.front, s.back
	p.stream = s
	p.frame = appendHead(nil, head{size: maxFrame, kind: http2.FrameData, id: 1})
	p.frame = append(p.frame, make([]byte, maxFrame)...)
	return p
}

// relay reads frames of DATA from the backend and writes them to the client.
func (p *openPath) relay(frames int) error {
	p.client.sendWindow, p.client.streams[1].sendWindow = maxWindow, maxWindow
	p.backend.recvWindow, p.backend.streams[1].recvWindow = connWindow, connWindow
	return p.feed(p.backend, frames)
}

// upload is the same from the client to the backend.
func (p *openPath) upload(frames int) error {
	p.backend.sendWindow, p.backend.streams[1].sendWindow = maxWindow, maxWindow
	p.client.recvWindow, p.client.streams[1].recvWindow = connWindow, connWindow
	return p.feed(p.client, frames)
}

func (p *openPath) feed(from *conn, frames int) error {
	for range frames {
		n := copy(from.space(), p.frame)
		for rest := p.frame[n:]; len(rest) > 0; rest = rest[n:] {
			if err := from.filled(n); err != nil {
				return err
			}
			n = copy(from.space(), rest)
		}
		if err := from.filled(n); err != nil {
			return err
		}
	}
	return nil
}

// keeper is a Call that lets everything pass, after a look at it, and puts a few
// bytes behind each piece as a stamp does behind a message.
type keeper struct{ insert []byte }

func (k keeper) Edit(p []byte, _ bool, e *Edits) Verdict {
	e.Keep(len(p))
	e.Insert(k.insert)
	return Pass
}
func (keeper) Broken(Break) *Reply { return nil }
func (keeper) Done(Stats)          {}

// A DATA frame on the open path allocates nothing.
func TestDataFramesAllocateNothing(t *testing.T) {
	p := newOpenPath()
	const frames = 64
	run := func() {
		if err := p.relay(frames); err != nil {
			t.Fatal(err)
		}
	}
	run()
	before := p.out.bytes
	run()
	if got := p.out.bytes - before; got < frames*(maxFrame+frameHead) {
		t.Fatalf("%d bytes were written for %d frames", got, frames)
	}
	// Pools may be emptied by a collection in between: less than one in ten frames.
	if n := testing.AllocsPerRun(50, run); n > frames/10 {
		t.Errorf("%v allocations for %d frames", n, frames)
	}
}

// Nor does one of an upload, seen by nobody, by a Call, and by one that adds to it.
func TestUploadFramesAllocateNothing(t *testing.T) {
	const frames = 64
	for name, call := range map[string]Call{
		"no call": nil, "a call that looks": keeper{}, "a call that adds": keeper{[]byte("\x12\x05\x0a\x03ada")},
	} {
		t.Run(name, func(t *testing.T) {
			p := newOpenPath()
			p.stream.call = call
			run := func() {
				if err := p.upload(frames); err != nil {
					t.Fatal(err)
				}
			}
			run()
			before := p.up.bytes
			run()
			if got := p.up.bytes - before; got < frames*(maxFrame+frameHead) {
				t.Fatalf("%d bytes were written for %d frames", got, frames)
			}
			if n := testing.AllocsPerRun(50, run); n > frames/10 {
				t.Errorf("%v allocations for %d frames", n, frames)
			}
		})
	}
}

func BenchmarkUploadFrame(b *testing.B) {
	p := newOpenPath()
	p.stream.call = keeper{}
	b.SetBytes(maxFrame)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.upload(1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDataFrame(b *testing.B) {
	p := newOpenPath()
	b.SetBytes(maxFrame)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.relay(1); err != nil {
			b.Fatal(err)
		}
	}
}
