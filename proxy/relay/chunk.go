package relay

import (
	"sync"
	"sync/atomic"
)

// The sizes of read buffers. A connection starts with the smallest and moves on
// when reads fill it, so a connection that carries small requests costs little
// and a download is read in large pieces.
const (
	smallChunk  = 4 << 10
	middleChunk = 32 << 10
	largeChunk  = 256 << 10
)

var chunkSizes = [...]int{smallChunk, middleChunk, largeChunk}

// chunk is a reference-counted buffer. Who holds a reference may read the part
// that it was given; bytes past what is filled belong to the reader alone.
type chunk struct {
	buf  []byte
	home *buffers
	kind uint8
	refs atomic.Int32
}

func (k *chunk) hold() { k.refs.Add(1) }

func (k *chunk) drop() {
	if k != nil && k.refs.Add(-1) == 0 {
		k.home.pools[k.kind].Put(k)
	}
}

// buffers are the pools that the connections of one server or backend share.
type buffers struct {
	arrays sync.Pool // of *arrays
	pools  [len(chunkSizes)]sync.Pool
	grown  atomic.Int64 // bytes by which windows have grown, see Limits.GrownWindows
}

// get returns a chunk with one reference.
func (b *buffers) get(kind uint8) *chunk {
	k, _ := b.pools[kind].Get().(*chunk)
	if k == nil {
		k = &chunk{buf: make([]byte, chunkSizes[kind]), home: b, kind: kind}
	}
	k.refs.Store(1)
	return k
}

// fitting returns the smallest chunk that holds n bytes; n is at most largeChunk.
func (b *buffers) fitting(n int) *chunk {
	for kind := range chunkSizes {
		if n <= chunkSizes[kind] {
			return b.get(uint8(kind))
		}
	}
	return &chunk{buf: make([]byte, n), home: b, kind: uint8(len(chunkSizes) - 1)}
}

// arrays are what a busy connection collects its output in. An idle one has none.
type arrays struct {
	out, flying []item
	bufs        [][]byte
}

// mostKept bounds the arrays that are kept for later.
const mostKept = 1024

func (b *buffers) getArrays() *arrays {
	if a, _ := b.arrays.Get().(*arrays); a != nil {
		return a
	}
	return &arrays{out: make([]item, 0, 32), flying: make([]item, 0, 32), bufs: make([][]byte, 0, 32)}
}

// putArrays takes back arrays whose items are cleared; none of them may be nil.
func (b *buffers) putArrays(a *arrays) {
	if a.out == nil || a.flying == nil {
		return
	}
	if cap(a.out) <= mostKept && cap(a.flying) <= mostKept && cap(a.bufs) <= mostKept {
		b.arrays.Put(a)
	}
}
