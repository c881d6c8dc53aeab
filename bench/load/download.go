package load

import (
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/sconce-dev/sconce/bench/payload"
	"github.com/sconce-dev/sconce/bench/wire"
)

// Ask is what an ExecutePlan call is to bring.
type Ask struct {
	// Size is each message's size on the wire in bytes.
	Size int
	// Messages is how many messages come, at least 1.
	Messages int64
	// Hold leaves the stream open after the last message.
	Hold bool
	// Credit is how the reader behaves.
	Credit Credit
}

// Got is what one finished download brought.
type Got struct {
	// Bytes are body bytes, gRPC prefixes included.
	Bytes int64
	// First is the time from the request to the first byte of the body.
	First time.Duration
	// Wall is the time from the request to the trailers.
	Wall time.Duration
}

// Download makes one ExecutePlan call and reads all of it.
func (c *Conn) Download(a Ask) (Got, error) {
	got, err := c.Downloads(a, 1)
	if err != nil {
		return Got{}, err
	}
	return got[0], nil
}

// Downloads makes n such calls at once.
func (c *Conn) Downloads(a Ask, n int) ([]Got, error) {
	streams, err := c.begin(a, n)
	if err != nil {
		return nil, err
	}
	got := make([]Got, n)
	err = c.until(func() bool {
		left := 0
		for i, st := range streams {
			if !st.done {
				left++
			} else if got[i].Wall == 0 {
				got[i] = Got{Bytes: st.check.Bytes, First: st.first, Wall: time.Since(st.started)}
			}
		}
		return left == 0
	})
	return got, err
}

// Open makes n such calls and returns when all messages of each have come; with
// Ask.Hold the calls stay open.
func (c *Conn) Open(a Ask, n int) error {
	streams, err := c.begin(a, n)
	if err != nil {
		return err
	}
	return c.until(func() bool { return filled(streams, int64(a.Size)*max(a.Messages, 1)) })
}

// OpenFor makes n such calls and returns when each has brought as much as its
// window lets through, or after the given time. The streams stay open.
func (c *Conn) OpenFor(a Ask, n int, during time.Duration) error {
	streams, err := c.begin(a, n)
	if err != nil {
		return err
	}
	if err := c.nc.SetDeadline(time.Now().Add(during)); err != nil {
		return err
	}
	for !filled(streams, int64(c.target.Window)) {
		err := c.step()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func filled(streams []*stream, enough int64) bool {
	for _, st := range streams {
		if st.got.Load() < enough {
			return false
		}
	}
	return true
}

func (c *Conn) begin(a Ask, n int) ([]*stream, error) {
	want, err := payload.Rows(c.target.Spark, a.Size)
	if err != nil {
		return nil, err
	}
	streams := make([]*stream, n)
	for i := range streams {
		st := c.open(payload.ExecutePlanPath, want, max(a.Messages, 1), a.metadata()...)
		st.credit = a.Credit
		c.send(st, payload.ExecuteRequest(c.target.Spark, rand.Uint64()>>16)) //nolint:gosec // ids that differ, no secrets
		streams[i] = st
	}
	return streams, nil
}

// tick is how often a slow reader returns credit.
const tick = 100 * time.Millisecond

// Slow reads n endless downloads at rate bytes a second each for the given
// time, then resets them. It returns what each brought in bytes.
func (c *Conn) Slow(a Ask, n int, rate int64, during time.Duration) ([]int64, error) {
	a.Credit = Never
	streams, err := c.begin(a, n)
	if err != nil {
		return nil, err
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	paced := make(chan error, 1)
	stop := make(chan struct{})
	go func() { paced <- c.pace(streams, rate, stop) }()
	end := time.Now().Add(during)
	err = c.until(func() bool { return time.Now().After(end) })
	close(stop)
	if perr := <-paced; err == nil {
		err = perr
	}
	got := make([]int64, n)
	for i, st := range streams {
		got[i] = st.got.Load()
		c.out = wire.AppendReset(c.out, st.id, cancelCode)
		delete(c.streams, st.id)
	}
	if err != nil {
		return got, err
	}
	return got, c.flush()
}

// cancelCode is CANCEL (RFC 9113, 7).
const cancelCode = 8

// pace is the goroutine that returns credit for slow readers: never more than
// they have received, and never faster than rate.
func (c *Conn) pace(streams []*stream, rate int64, stop <-chan struct{}) error {
	began := time.Now()
	given := make([]int64, len(streams))
	clock := time.NewTicker(tick)
	defer clock.Stop()
	var out []byte
	for {
		select {
		case <-stop:
			return nil
		case <-clock.C:
		}
		due := int64(float64(rate) * time.Since(began).Seconds())
		out = out[:0]
		for i, st := range streams {
			if n := min(due, st.got.Load()) - given[i]; n > 0 {
				out = wire.AppendWindowUpdate(out, st.id, int(n))
				given[i] += n
			}
		}
		if len(out) == 0 {
			continue
		}
		if err := c.write(out); err != nil {
			return err
		}
	}
}
