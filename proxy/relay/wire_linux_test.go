package relay

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"
	"weak"
)

// TestSocketForgetsWhatItWrote: a connection to an engine is idle for hours, and the
// buffers that went out by it belong to others, who need them no more.
func TestSocketForgetsWhatItWrote(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	w := newWire(near)
	written := writeLarge(t, w, far)
	for late := time.Now().Add(10 * time.Second); written.Value() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("a buffer that was written is still in memory")
		}
		runtime.GC()
	}
	runtime.KeepAlive(w)
}

// writeLarge is a function of its own so that no place on the stack keeps the buffer.
func writeLarge(t *testing.T, w wire, far io.Reader) weak.Pointer[byte] {
	large := make([]byte, middleChunk)
	if n, err := w.write([][]byte{large}); n != len(large) || err != nil {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
	if _, err := io.ReadFull(far, make([]byte, len(large))); err != nil {
		t.Fatal(err)
	}
	return weak.Make(&large[0])
}
