package workload

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sconce-dev/sconce/bench/load"
	"github.com/sconce-dev/sconce/bench/table"
)

// Figures of calls.
const (
	figureCalls = "calls"
	figureP50   = "p50_us"
	figureP99   = "p99_us"
)

// unary is W1: calls of 100 bytes that are answered with 200.
func unary(name, title string, calls, conns, inflight int) Workload {
	return Workload{
		Name:  name,
		Title: name + ": " + title,
		Columns: []table.Column{
			least(per("CPU ms / 1,000 RPC", figureCPU, figureCalls, 1e6, 1)),
			overFloor(figureCPU),
			per("ctx sw / RPC", figureSwitches, figureCalls, 1, 2),
			own("p50 µs", figureP50, 1, 0),
			least(added("added p50 µs", figureP50, 1, 0)),
			own("p99 µs", figureP99, 1, 0),
			overDirect(),
			own("peak RSS MB", figurePeak, 1e-6, 1),
		},
		Run: func(ctx context.Context, r Rig) (table.Values, error) {
			return r.unary(ctx, r.of(calls), conns, inflight)
		},
	}
}

// warmCalls is how many calls each connection makes before the meter starts.
const warmCalls = 500

func (r Rig) unary(ctx context.Context, calls, conns, inflight int) (table.Values, error) {
	pool, err := load.Dial(ctx, r.Target, conns)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	if err := warm(pool, inflight, warmCalls); err != nil {
		return nil, err
	}
	var (
		mu   sync.Mutex
		took []time.Duration
	)
	v, err := r.measured(func() error {
		return pool.Each(func(c *load.Conn) error {
			d, err := c.Unary(inflight, calls/conns)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, d...)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("calls: %w", err)
	}
	v[figureCalls] = float64(len(took))
	v[figureP50] = micros(table.Percentile(took, 0.50))
	v[figureP99] = micros(table.Percentile(took, 0.99))
	return v, nil
}

// warm makes some calls on every connection.
func warm(pool *load.Pool, inflight, calls int) error {
	err := pool.Each(func(c *load.Conn) error {
		_, err := c.Unary(inflight, calls)
		return err
	})
	if err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func medianMicros(d []time.Duration) float64 {
	return micros(table.Percentile(slices.Clone(d), 0.5))
}
