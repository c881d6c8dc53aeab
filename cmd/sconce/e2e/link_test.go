package e2e

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// link is a TCP relay of the test's own, before an engine or before Sconce,
// which can be cut in the middle of a stream.
type link struct {
	ln      net.Listener
	address atomic.Pointer[[]string] // where it leads: in turn, and past those that do not answer
	next    atomic.Uint32
	// budget is how many more bytes from the engine pass before the connection
	// that carries the last of them is cut; negative = never.
	budget atomic.Int64
	cuts   atomic.Int32 // connections cut so far
	taken  atomic.Int32 // connections accepted so far
	onCut  func()       // runs before the cut connection ends; nil = nothing. Set before the first cutAfter
	spare  bool         // the connection is not cut: onCut runs, and that is all. Set with onCut
	open   sync.WaitGroup

	mu   sync.Mutex
	near map[net.Conn]struct{} // the open ones
}

func newLink(address string) (*link, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{ln: ln, near: map[net.Conn]struct{}{}}
	l.turn(address)
	l.budget.Store(-1)
	l.open.Add(1)
	go l.accept()
	return l, nil
}

func (l *link) addr() string { return l.ln.Addr().String() }

// cutAfter arms the link: once, n bytes from now.
func (l *link) cutAfter(n int64) {
	l.cuts.Store(0)
	l.budget.Store(n)
}

// turn sends the connections from now on to other addresses.
func (l *link) turn(addresses ...string) { l.address.Store(&addresses) }

// dial is what a plain TCP balancer does: the next address, or the one after it.
func (l *link) dial() (far net.Conn, err error) {
	addresses := *l.address.Load()
	first := int(l.next.Add(1))
	for i := range addresses {
		if far, err = net.Dial("tcp", addresses[(first+i)%len(addresses)]); err == nil {
			return far, nil
		}
	}
	return nil, err
}

// sever ends the connections that are open.
func (l *link) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.near {
		c.Close()
	}
}

func (l *link) close() {
	l.ln.Close()
	l.open.Wait()
}

func (l *link) accept() {
	defer l.open.Done()
	for {
		near, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.taken.Add(1)
		l.open.Add(1)
		go l.serve(near)
	}
}

func (l *link) serve(near net.Conn) {
	defer l.open.Done()
	l.mu.Lock()
	l.near[near] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.near, near)
		l.mu.Unlock()
		near.Close()
	}()
	far, err := l.dial()
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		_, _ = io.Copy(far, near)
		// The client hung up: end the other direction too.
		far.Close()
	}()
	l.answer(near, far)
}

// answer copies from the engine until the budget is spent.
func (l *link) answer(near, far net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := far.Read(buffer)
		if n > 0 && l.spent(int64(n)) {
			l.cuts.Add(1)
			if l.onCut != nil {
				l.onCut()
			}
			if !l.spare {
				// A reset, not a polite end: what a dead machine or a killed engine looks like.
				near.(*net.TCPConn).SetLinger(0)
				return
			}
		}
		if _, failed := near.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}

// spent says whether these n bytes use up an armed budget; only one caller hears yes.
func (l *link) spent(n int64) bool {
	for {
		left := l.budget.Load()
		if left < 0 {
			return false
		}
		if left > n {
			if l.budget.CompareAndSwap(left, left-n) {
				return false
			}
			continue
		}
		if l.budget.CompareAndSwap(left, -1) {
			return true
		}
	}
}
