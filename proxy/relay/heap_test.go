package relay_test

import (
	"math"
	"net"
	"runtime"
	"time"

	"golang.org/x/net/http2"
)

// heapGrowth is by how many bytes the live heap is larger after f than before.
// What f left to be collected does not count.
func heapGrowth(f func()) int {
	before := liveHeap()
	f()
	return liveHeap() - before
}

// liveHeap is the least of some readings. What other goroutines allocate while the
// collector runs counts as live in that reading, and on a busy machine that is
// megabytes; what is really held is there in each.
func liveHeap() int {
	least := math.MaxInt
	for i := range 8 {
		if i > 0 {
			time.Sleep(25 * time.Millisecond)
		}
		runtime.GC()
		runtime.GC() // a second one empties the pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		least = min(least, int(m.HeapAlloc)) //nolint:gosec // far below 2^63
	}
	return least
}

func goroutines() int { return runtime.NumGoroutine() }

// deafClient sends frames and never reads.
type deafClient struct {
	conn   net.Conn
	framer *http2.Framer
}

// open sends a request of one header block as the i-th stream.
func (d *deafClient) open(i int, block []byte) error {
	return d.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: uint32(2*i + 1), BlockFragment: block, EndHeaders: true, EndStream: true, //nolint:gosec // small
	})
}

// deadlineWriter gives up on a peer that takes nothing for a while: it stopped
// reading, which is one right answer to a client that does not read.
type deadlineWriter struct{ net.Conn }

func (w deadlineWriter) Write(p []byte) (int, error) {
	_ = w.SetWriteDeadline(time.Now().Add(time.Second))
	return w.Conn.Write(p)
}
