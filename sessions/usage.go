package sessions

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// detachedFor is how long an operation without a stream counts as running: as
// long as Spark keeps the result of one that nobody asks for
// (spark.connect.execute.manager.detachedTimeout).
const detachedFor = 5 * time.Minute

// mostOperations is how many operations are known of a session, and how many that are over
// are told at a time: more than any client has, and little for the registry. What is left
// out keeps its session awake for five minutes more at worst.
const mostOperations = 256

// operations are those of a session that clients may come back for, as far as
// this replica saw them. Its zero value is empty.
type operations struct {
	mu    sync.Mutex
	known map[string]*operation
	news  news
}

// news is what the registry is to be told of operations that are over, the newest
// mostOperations of each.
type news struct{ over, released []string }

func newest(list []string, more ...string) []string {
	if list = append(list, more...); len(list) > mostOperations {
		list = slices.Delete(list, 0, len(list)-mostOperations)
	}
	return list
}

type operation struct {
	detached time.Time // when its last stream ended
	told     bool      // the registry knows of it
}

func (o *operations) detach(id string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op := o.known[id]
	if op == nil {
		if len(o.known) == mostOperations {
			return
		}
		if o.known == nil {
			o.known = map[string]*operation{}
		}
		op = &operation{}
		o.known[id] = op
	}
	op.detached = now
}

// end forgets an operation. Another replica may have told the registry of it.
func (o *operations) end(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known[id] == nil {
		o.news.over = newest(o.news.over, id)
		return
	}
	o.remove(id)
}

// release forgets an operation. Another replica may take it for running, now or soon.
func (o *operations) release(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.known, id)
	o.news.released = newest(o.news.released, id)
}

// elsewhere forgets operations that were released by way of other replicas.
func (o *operations) elsewhere(released []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range released {
		delete(o.known, id)
	}
}

// done forgets an operation that this replica knows.
func (o *operations) done(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known[id] != nil {
		o.remove(id)
	}
}

func (o *operations) remove(id string) {
	if o.known[id].told {
		o.news.over = newest(o.news.over, id)
	}
	delete(o.known, id)
}

func (o *operations) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.known)
}

// untold takes back what the registry did not hear.
func (o *operations) untold(n news) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.news = news{newest(n.over, o.news.over...), newest(n.released, o.news.released...)}
}

// quiet says that there is no news.
func (o *operations) quiet() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.known)+len(o.news.over)+len(o.news.released) == 0
}

// tell returns what the registry is to be told.
func (o *operations) tell(now time.Time) (running []string, n news) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, op := range o.known {
		if now.Sub(op.detached) > detachedFor {
			o.remove(id)
			continue
		}
		op.told = true
		running = append(running, id)
	}
	n, o.news = o.news, news{}
	slices.Sort(running)
	return running, n
}

// busy says that a stream is open which is more than a look, or a client may come back for an operation.
func (l *live) busy() bool { return l.used() || l.operations.count() > 0 }

// used says that a stream is open which is a use of the session. A look that begins or
// ends meanwhile may be taken for one.
func (l *live) used() bool { return l.streams.Load() > l.looks.Load() }

// keepTouching tells the registry every TouchEvery which sessions are in use, and
// a last time at the end of ctx. What could not be told is told by the next round.
func (r *Resolver) keepTouching(ctx context.Context) {
	tick := time.NewTicker(r.TouchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.touch(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.ReadTimeout)
			defer cancel()
			r.touch(last)
			return
		}
	}
}

func (r *Resolver) touch(ctx context.Context) {
	uses := r.uses()
	if len(uses) == 0 {
		return
	}
	released, err := r.Uses.Touch(ctx, uses)
	if err != nil {
		r.Logger.Warn("the registry was not told which sessions are in use", zap.Int("sessions", len(uses)), zap.Error(err))
		for _, u := range uses {
			if e := r.table.get(u.ID); e != nil {
				e.live.touched.Store(true)
				e.live.operations.untold(news{u.Over, u.Released})
			}
		}
	}
	for id, ops := range released {
		if e := r.table.get(id); e != nil {
			e.live.operations.elsewhere(ops)
		}
	}
}

// uses collects what was used since the last round.
func (r *Resolver) uses() []Use {
	now := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var uses []Use
	for id, e := range r.known {
		touched := e.live.touched.Swap(false)
		used := touched || e.live.used()
		if !used && e.live.operations.quiet() {
			continue
		}
		running, n := e.live.operations.tell(now)
		if used || len(running)+len(n.over)+len(n.released) > 0 {
			uses = append(uses, Use{
				ID: id, Running: running, Over: n.over, Released: n.released, Replica: r.replica, Streams: e.live.streams.Load(),
			})
		}
	}
	return uses
}
