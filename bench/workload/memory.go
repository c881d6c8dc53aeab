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

// Figures of memory workloads: how many bytes the slowest reader got, and how
// many connections or streams the memory is for.
const (
	figureSlowest = "slowest_bytes"
	figureHeld    = "held"
)

// endless is a number of messages that no run comes to the end of.
const endless = 1 << 40

const (
	slowRate   = 1_000_000 // bytes a second
	slowTime   = 10 * time.Second
	slowRounds = 3
)

// slow is W5: the backend pushes, the readers are slow.
func slow(name, title string, conns, streams int) Workload {
	return Workload{
		Name:  name,
		Title: name + ": " + title,
		Text: "A reader that is never held back gets 10 MB and, at the end, up to a window (1 MiB) more; " +
			"fewer means that the proxy slowed it further.",
		Most:     slowRounds,
		NoDirect: true,
		Columns: []table.Column{
			grown("peak above idle MB", figurePeak, 1),
			own("peak RSS MB", figurePeak, 1e-6, 1),
			own("slowest reader MB", figureSlowest, 1e-6, 1),
			own("CPU s", figureCPU, 1, 2),
		},
		Run: func(ctx context.Context, r Rig) (table.Values, error) { return r.slow(ctx, conns, streams) },
	}
}

func (r Rig) slow(ctx context.Context, conns, streams int) (table.Values, error) {
	during := r.Slow
	if during == 0 {
		during = slowTime / time.Duration(r.shrink())
	}
	r.Target.Timeout = during + slowTime
	pool, err := load.Dial(ctx, r.Target, conns)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	if err := warm(pool, 1, 5); err != nil {
		return nil, err
	}
	var (
		mu  sync.Mutex
		got []int64
	)
	v, err := r.measured(func() error {
		return pool.Each(func(c *load.Conn) error {
			n, err := c.Slow(load.Ask{Size: rows, Messages: endless}, streams, slowRate, during)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, n...)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("slow readers: %w", err)
	}
	v[figureSlowest] = float64(slices.Min(got))
	return v, nil
}

// usedOnce is W6: what a connection keeps after it has carried a download.
func usedOnce() Workload {
	const most = 10_000
	return Workload{
		Name:  "W6_conns",
		Title: "W6_conns: connections that carried 1 MiB once and are idle",
		Text: fmt.Sprintf("Up to %d connections, fewer where the machine allows fewer open files; "+
			"memory is read after %v of silence.", most, idle),
		Most:     2,
		NoDirect: true,
		Columns: []table.Column{
			own("connections", figureHeld, 1, 0),
			grownPer("kB / connection", figureHeld),
			own("RSS MB", figureRSS, 1e-6, 1),
			own("peak RSS MB", figurePeak, 1e-6, 1),
			own("CPU s", figureCPU, 1, 2),
		},
		Run: func(ctx context.Context, r Rig) (table.Values, error) {
			return r.usedOnce(ctx, r.of(min(most, r.Connections)))
		},
	}
}

func (r Rig) usedOnce(ctx context.Context, conns int) (table.Values, error) {
	const busy = 8 // connections that carry their download at the same time
	if err := r.primed(ctx); err != nil {
		return nil, err
	}
	r.Target.ReadBuffer = 1 // the least: there are many
	m, err := r.start()
	if err != nil {
		return nil, err
	}
	pool, err := load.Dial(ctx, r.Target, conns)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	err = pool.Few(busy, func(c *load.Conn) error {
		_, err := c.Download(load.Ask{Size: rows, Messages: mib / rows})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("download on each connection: %w", err)
	}
	r.settle()
	v, err := m.stop()
	if err != nil {
		return nil, err
	}
	v[figureHeld] = float64(conns)
	return v, nil
}

// primed makes a few calls on a connection of their own, so that what a proxy
// sets up once does not count.
func (r Rig) primed(ctx context.Context) error {
	pool, err := load.Dial(ctx, r.Target, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	return warm(pool, 1, 20)
}

// openStreams is W6: what a stream keeps that stays open after a message.
func openStreams() Workload {
	const conns, streams = 10, 100
	return Workload{
		Name:     "W6_streams",
		Title:    "W6_streams: 1,000 open streams (10 connections, 100 each)",
		Text:     "Each stream has carried one message of 64 KiB and stays open.",
		Most:     3,
		NoDirect: true,
		Columns: []table.Column{
			grownPer("kB / stream", figureHeld),
			own("RSS MB", figureRSS, 1e-6, 1),
			own("peak RSS MB", figurePeak, 1e-6, 1),
		},
		Run: func(ctx context.Context, r Rig) (table.Values, error) { return r.openStreams(ctx, conns, streams) },
	}
}

func (r Rig) openStreams(ctx context.Context, conns, streams int) (table.Values, error) {
	pool, err := load.Dial(ctx, r.Target, conns)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	if err := warm(pool, 1, 20); err != nil {
		return nil, err
	}
	v, err := r.measured(func() error {
		err := pool.Each(func(c *load.Conn) error {
			return c.Open(load.Ask{Size: rows, Messages: 1, Hold: true}, streams)
		})
		r.settle()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open streams: %w", err)
	}
	v[figureHeld] = float64(conns * streams)
	return v, nil
}
