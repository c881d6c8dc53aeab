package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/sconce-dev/sconce/bench/load"
	"github.com/sconce-dev/sconce/bench/table"
)

// figureGB is how many GB (1e9 bytes) were relayed; the others are times to the
// first byte of a big message and of a small one.
const (
	figureGB         = "gb"
	figureFirst      = "first_byte_us"
	figureFirstSmall = "first_byte_small_us"
)

func byteColumns() []table.Column {
	return []table.Column{
		least(per("CPU s / GB", figureCPU, figureGB, 1, 2)),
		overFloor(figureCPU),
		per("user %", figureUser, figureCPU, 100, 0),
		per("ctx sw / GB", figureSwitches, figureGB, 1, 0),
		per("wall s / GB", figureWall, figureGB, 1, 2),
		overDirect(),
		own("peak RSS MB", figurePeak, 1e-6, 1),
		grown("above idle MB", figurePeak, 1),
	}
}

// rounds is how often a run repeats its transfer, so that it lasts long enough
// to count its CPU.
const rounds = 3

// download is W2 and W3: one stream on each connection.
func download(name, title string, conns int, a load.Ask) Workload {
	return Workload{
		Name:    name,
		Title:   name + ": " + title,
		Columns: byteColumns(),
		Run: func(ctx context.Context, r Rig) (table.Values, error) {
			a := a
			a.Messages = int64(r.of(int(a.Messages)))
			return r.download(ctx, conns, a)
		},
	}
}

func (r Rig) download(ctx context.Context, conns int, a load.Ask) (table.Values, error) {
	pool, err := load.Dial(ctx, r.Target, conns)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	if err := warm(pool, 1, 20); err != nil {
		return nil, err
	}
	v, err := r.measured(func() error {
		return pool.Each(func(c *load.Conn) error {
			return repeat(rounds, func() error {
				_, err := c.Download(a)
				return err
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	v[figureGB] = rounds * float64(conns) * float64(a.Messages) * float64(a.Size) / 1e9
	return v, nil
}

func repeat(times int, do func() error) error {
	for range times {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// oneMessage is W2c: what a message of 128 MiB costs, and when it begins to arrive.
func oneMessage() Workload {
	const times = 4
	return Workload{
		Name:  "W2c",
		Title: "W2c: one message of 128 MiB, four times in turn",
		Columns: append(byteColumns(),
			own("first byte µs", figureFirst, 1, 0),
			own("of a 64 KiB message µs", figureFirstSmall, 1, 0)),
		Run: func(ctx context.Context, r Rig) (table.Values, error) {
			return r.oneMessage(ctx, times, load.Ask{Size: 128 * mib / r.shrink(), Messages: 1})
		},
	}
}

// shrink is by how much a quick run divides one big size.
func (r Rig) shrink() int {
	if r.Quick {
		return 4
	}
	return 1
}

func (r Rig) oneMessage(ctx context.Context, times int, a load.Ask) (table.Values, error) {
	pool, err := load.Dial(ctx, r.Target, 1)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	c := pool.Conns[0]
	small, err := firstBytes(c, 20, load.Ask{Size: rows, Messages: 1})
	if err != nil {
		return nil, fmt.Errorf("small messages: %w", err)
	}
	var big []time.Duration
	v, err := r.measured(func() error {
		big, err = firstBytes(c, times, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("big message: %w", err)
	}
	v[figureGB] = float64(times) * float64(a.Size) / 1e9
	v[figureFirst] = medianMicros(big)
	v[figureFirstSmall] = medianMicros(small)
	return v, nil
}

// firstBytes downloads some times in turn and returns how long the first byte took.
func firstBytes(c *load.Conn, times int, a load.Ask) ([]time.Duration, error) {
	var took []time.Duration
	for range times {
		got, err := c.Download(a)
		if err != nil {
			return nil, err
		}
		took = append(took, got.First)
	}
	return took, nil
}

// chunk is the size in bytes of the messages in which Spark's clients upload.
const chunk = 32 << 10

// upload is W4.
func upload() Workload {
	return Workload{
		Name:    "W4",
		Title:   "W4: upload of 512 MiB in 32 KiB messages, 1 stream, three times in turn",
		Columns: byteColumns(),
		Run: func(ctx context.Context, r Rig) (table.Values, error) {
			return r.upload(ctx, int64(r.of(512*mib/chunk)))
		},
	}
}

func (r Rig) upload(ctx context.Context, messages int64) (table.Values, error) {
	pool, err := load.Dial(ctx, r.Target, 1)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	if err := warm(pool, 1, 20); err != nil {
		return nil, err
	}
	v, err := r.measured(func() error {
		return repeat(rounds, func() error { return pool.Conns[0].Upload(chunk, messages) })
	})
	if err != nil {
		return nil, fmt.Errorf("upload: %w", err)
	}
	v[figureGB] = rounds * float64(messages) * chunk / 1e9
	return v, nil
}
