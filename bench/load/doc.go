// Package load is the client end of the benchmark: HTTP/2 connections that send
// Spark Connect calls through a proxy and compare every byte that comes back.
//
//	pool, err := load.Dial(ctx, target, 8)              // eight connections
//	err = pool.Each(func(c *load.Conn) error {     // at once, one goroutine each
//		got, err := c.Download(load.Ask{Size: 64 << 10, Messages: 2048})
//		...
//	})
//
// A Conn belongs to one goroutine, which sends, reads and keeps the clock: a
// closed loop without hand-overs, so that the latencies are the proxy's. Slow
// readers are made by returning flow-control credit late; a stalled reader
// returns none.
//
// It makes no retries and no new connections: whatever fails, fails the run.
package load
