package workload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sconce-dev/sconce/bench/load"
	"github.com/sconce-dev/sconce/bench/table"
)

// Figures of W8: the wall time of the fast streams alone and beside stalled ones.
const (
	figureAlone  = "alone_s"
	figureBeside = "beside_s"
)

const (
	stalled = 40
	fast    = 4
	// patience is when a run is given up: the fast streams stand still.
	patience = 10 * time.Second
	// filling is how long the stalled streams get to fill up.
	filling = 2 * time.Second
)

// blocking is W8: do streams that nobody reads hold up others?
func blocking() Workload {
	return Workload{
		Name:  "W8",
		Title: "W8: head-of-line blocking, 4 fast streams beside 40 stalled ones on one connection",
		Text: fmt.Sprintf("Wall time of four downloads of 64 MiB at once, alone and then with 40 streams open that "+
			"nobody reads. %.0f s beside stalled streams means that they did not finish and were given up. "+
			"(nghttpx and envoy have a connection window of 16 MiB to the backend here, as in the other tables.)",
			patience.Seconds()),
		Most: 3,
		Columns: []table.Column{
			own("alone s", figureAlone, 1, 2),
			own("beside stalled s", figureBeside, 1, 2),
			per("ratio", figureBeside, figureAlone, 1, 1),
		},
		Run: func(ctx context.Context, r Rig) (table.Values, error) { return r.blocking(ctx) },
	}
}

func (r Rig) blocking(ctx context.Context) (table.Values, error) {
	r.Target.Timeout = patience
	pool, err := load.Dial(ctx, r.Target, 1)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	c := pool.Conns[0]
	if err := warm(pool, 1, 20); err != nil {
		return nil, err
	}
	v := table.Values{}
	if v[figureAlone], err = r.fast(c); err != nil {
		return nil, fmt.Errorf("fast streams alone: %w", err)
	}
	err = c.OpenFor(load.Ask{Size: rows, Messages: endless, Credit: load.Never}, stalled, filling)
	if err != nil {
		return nil, fmt.Errorf("stalled streams: %w", err)
	}
	v[figureBeside], err = r.fast(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		v[figureBeside], err = patience.Seconds(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("fast streams beside stalled ones: %w", err)
	}
	return v, nil
}

// fast returns how long the fast streams took in seconds.
func (r Rig) fast(c *load.Conn) (float64, error) {
	began := time.Now()
	_, err := c.Downloads(load.Ask{Size: rows, Messages: int64(r.of(64 * mib / rows))}, fast)
	return time.Since(began).Seconds(), err
}
