package storetest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Way is a way to a Redis on which answers can be held, or lost.
type Way struct {
	// Addr is where it is taken.
	Addr string

	server string
	answer func() bool
	ln     net.Listener
	links  sync.WaitGroup
}

// StartWay is open until the test ends. For each piece of an answer it asks whether that
// goes on, once that returns; if not, the connection ends.
func StartWay(t testing.TB, server string, answer func() bool) *Way {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Way{Addr: ln.Addr().String(), server: server, answer: answer, ln: ln}
	w.links.Go(w.serve)
	t.Cleanup(func() { ln.Close(); w.links.Wait() })
	return w
}

func (w *Way) serve() {
	for {
		near, err := w.ln.Accept()
		if err != nil {
			return
		}
		w.links.Go(func() { w.link(near) })
	}
}

func (w *Way) link(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	defer far.Close()
	w.links.Go(func() {
		_, _ = io.Copy(far, near)
		far.Close()
	})
	piece := make([]byte, 64<<10)
	for {
		n, err := far.Read(piece)
		if err != nil || !w.answer() {
			return
		}
		if _, err := near.Write(piece[:n]); err != nil {
			return
		}
	}
}
