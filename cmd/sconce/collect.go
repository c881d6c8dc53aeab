package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A small heap is collected too often and a large one too rarely for a gateway:
// with Go's default of 100 %, streaming small calls over a live heap of 3 MB
// collects every 4 MB, and ten thousand idle connections keep as much garbage as they
// keep state. So garbage may be garbageFloor, and in a larger heap a share of it.
const (
	garbageFloor = 12 << 20 // bytes
	leastPercent = 35
	mostPercent  = 400
)

// collectEvery is how often the heap is looked at.
const collectEvery = time.Second

// A gateway that has gone quiet gives back what it does not need: one forced
// collection also shrinks the stacks that ten thousand readers grew. quietBytes
// is how little is allocated between two looks, worthBytes what must be in use
// for the trouble, and restLooks how many looks lie between two such collections.
const (
	quietBytes = 1 << 20
	worthBytes = 32 << 20
	restLooks  = 30
)

// paceCollector sets the garbage collector's target by the size of the live
// heap. Where a person set GOGC, theirs holds.
func paceCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	sample := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}
	var heap heapWatch
	for {
		metrics.Read(sample)
		percent, release := heap.look(sample[0].Value.Uint64(), sample[1].Value.Uint64(), sample[2].Value.Uint64()+sample[3].Value.Uint64())
		if percent != 0 {
			debug.SetGCPercent(percent)
		}
		if release {
			debug.FreeOSMemory()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// heapWatch decides from one look at the heap to the next.
type heapWatch struct {
	percent int    // what was set last
	allocs  uint64 // bytes allocated since the start, at the last look
	busy    bool   // more than a little was allocated since memory was given back
	rest    int    // looks until it may be given back again
}

// look returns the collector's new target, or 0 where it stays, and whether to
// give memory back: once after a busy time.
func (h *heapWatch) look(live, allocs, inUse uint64) (percent int, release bool) {
	quiet := allocs-h.allocs < quietBytes
	h.allocs = allocs
	h.busy = h.busy || !quiet
	h.rest = max(h.rest-1, 0)
	if quiet && h.busy && h.rest == 0 && inUse > worthBytes {
		h.busy, h.rest, release = false, restLooks, true
	}
	if p := garbagePercent(live); p != h.percent {
		h.percent, percent = p, p
	}
	return percent, release
}

// garbagePercent is the share for a live heap of that many bytes, in steps of 5.
func garbagePercent(live uint64) int {
	percent := int(100 * garbageFloor / max(live, 1<<20))
	return min(max(percent/5*5, leastPercent), mostPercent)
}
