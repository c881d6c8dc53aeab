package load

import (
	"time"

	"github.com/sconce-dev/sconce/bench/payload"
)

// Unary makes calls calls of Config with inflight of them open at any time, and
// returns how long each took.
func (c *Conn) Unary(inflight, calls int) ([]time.Duration, error) {
	var (
		request = payload.UnaryRequest(c.target.Spark)
		want    = payload.Exact(payload.UnaryResponse(c.target.Spark))
		took    = make([]time.Duration, 0, calls)
		open    = make([]*stream, 0, inflight)
		opened  int
	)
	start := func() *stream {
		opened++
		st := c.open(payload.ConfigPath, want, 1)
		c.send(st, request)
		return st
	}
	for opened < min(inflight, calls) {
		open = append(open, start())
	}
	err := c.until(func() bool {
		for i := 0; i < len(open); i++ {
			if !open[i].done {
				continue
			}
			took = append(took, time.Since(open[i].started))
			if opened < calls {
				open[i] = start()
				continue
			}
			open[i] = open[len(open)-1]
			open = open[:len(open)-1]
			i--
		}
		return len(open) == 0
	})
	return took, err
}
