package load

import (
	"context"
	"fmt"
	"sync"
)

// Pool is a number of connections to one proxy.
type Pool struct {
	Conns []*Conn

	stop func() bool // ends the watch over the context; nil while dialling
}

// Dial opens n connections, dialers of them at a time. When ctx ends they are
// closed, and what is under way fails.
func Dial(ctx context.Context, t Target, n int) (*Pool, error) {
	p := &Pool{Conns: make([]*Conn, n)}
	err := Parallel(n, dialers, func(i int) (err error) {
		p.Conns[i], err = dialConn(ctx, t)
		return err
	})
	if err != nil {
		p.Close()
		return nil, err
	}
	p.stop = context.AfterFunc(ctx, p.closeAll)
	return p, nil
}

// dialers is how many connections are opened at the same time.
const dialers = 8

// Close ends every connection.
func (p *Pool) Close() {
	if p.stop != nil {
		p.stop()
	}
	p.closeAll()
}

func (p *Pool) closeAll() {
	for _, c := range p.Conns {
		if c != nil {
			c.Close()
		}
	}
}

// Each runs do for all connections at once and returns the first error.
func (p *Pool) Each(do func(*Conn) error) error {
	return Parallel(len(p.Conns), len(p.Conns), func(i int) error { return do(p.Conns[i]) })
}

// Few runs do for all connections, at most atOnce at a time.
func (p *Pool) Few(atOnce int, do func(*Conn) error) error {
	return Parallel(len(p.Conns), atOnce, func(i int) error { return do(p.Conns[i]) })
}

// Parallel runs do for 0 to n-1 in at most workers goroutines and waits for
// them. After an error no new ones begin.
func Parallel(n, workers int, do func(i int) error) error {
	var (
		mu    sync.Mutex
		next  int
		first error
		wg    sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		i := next
		next++
		return i, i < n && first == nil
	}
	for range min(n, workers) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := do(i); err != nil {
					mu.Lock()
					if first == nil {
						first = fmt.Errorf("connection %d: %w", i, err)
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}
