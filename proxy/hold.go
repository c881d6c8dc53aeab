package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/grpc/codes"
)

// holds counts the streams that wait, and bounds them in number and time. One
// owner has at most a tenth of the places, but a hundred of them where there are
// as many, and all of one organisation three times that: what waits for one person's
// cluster, or for that of one tenant with many people, leaves room for the others.
type holds struct {
	long, short time.Duration
	max         int
	each, org   int // of one owner, and of one organisation

	over chan struct{} // closed when the router ends
	wait sync.WaitGroup

	mu     sync.Mutex
	n      int
	of     map[ownerKey]int // never 0
	ofOrg  map[string]int   // likewise
	closed bool
}

func (h *holds) init(cfg RouterConfig) {
	h.long, h.short, h.max = cfg.HoldTimeout, cfg.UnaryHold, cfg.MaxHeld
	h.each = max(h.max/10, min(h.max, 100))
	h.org = min(h.max, 3*h.each)
	h.over, h.of, h.ofOrg = make(chan struct{}), make(map[ownerKey]int), make(map[string]int)
}

// holder is whose share a wait is of. Those of whom it is not known yet who they are
// have one together.
func holder(id *auth.Identity) ownerKey {
	if id == nil {
		return ownerKey{}
	}
	return ownerKey{id.Org, id.Subject}
}

// enter counts one more stream, or says why it may not wait.
func (h *holds) enter(id *auth.Identity) *Refusal {
	key := holder(id)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return &refuseDraining
	case h.n >= h.max, h.of[key] >= h.each, h.ofOrg[key.org] >= h.org:
		return &refuseHolds
	}
	h.n++
	h.of[key]++
	h.ofOrg[key.org]++
	h.wait.Add(1)
	return nil
}

func (h *holds) leave(id *auth.Identity) {
	key := holder(id)
	h.mu.Lock()
	h.n--
	if h.of[key]--; h.of[key] == 0 {
		delete(h.of, key)
	}
	if h.ofOrg[key.org]--; h.ofOrg[key.org] == 0 {
		delete(h.ofOrg, key.org)
	}
	h.mu.Unlock()
	h.wait.Done()
}

// patience is how long a request of that method waits.
func (h *holds) patience(m *method) time.Duration {
	if m.patient {
		return h.long
	}
	return h.short
}

// begin returns the context of one wait: it ends with the method's patience, the
// client, or the router. Only for who entered and has not left.
func (h *holds) begin(s stream, m *method) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), h.patience(m))
	h.wait.Add(1)
	go h.watch(ctx, s, cancel)
	return ctx, cancel
}

// watch ends the wait of a stream that nobody wants any more.
func (h *holds) watch(ctx context.Context, s stream, cancel context.CancelFunc) {
	defer h.wait.Done()
	select {
	case <-s.Gone():
	case <-h.over:
	case <-ctx.Done():
	}
	cancel()
}

// close ends every wait and returns when the last one is over.
func (h *holds) close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.over)
	}
	h.mu.Unlock()
	h.wait.Wait()
}

// hold keeps a stream whose route the cache does not know, or, without id, whose
// token can't be judged yet. Its body waits too,
// bounded by its window, and its client notices nothing: none of Spark's sets a
// deadline that a cluster's start would miss.
func (r *Router) hold(s stream, q *request, id *auth.Identity) {
	if refusal := r.holds.enter(id); refusal != nil {
		r.refuse(s, q, refusal)
		return
	}
	r.tally.held.Add(1)
	go r.awaitRoute(s, q, id)
}

// awaitRoute finds the route and lets the stream go on. It does not touch
// q.last, which belongs to the reader of the connection.
func (r *Router) awaitRoute(s stream, q *request, id *auth.Identity) {
	defer r.holds.leave(id)
	defer r.tally.held.Add(-1)
	began := r.now()
	ctx, cancel := r.holds.begin(s, q.method)
	defer cancel()

	by, refusal := r.findRoute(ctx, s, q, id)
	if refusal == nil {
		return
	}
	if q.method.starts && refusal.Code == codes.Unavailable {
		r.discard(s, q, by, refusal, r.now().Sub(began))
		return
	}
	r.refuse(s, q, refusal)
}

// findRoute lets the stream go on by the session's route, or says why it may not, and
// whose it is as far as that is known.
func (r *Router) findRoute(ctx context.Context, s stream, q *request, id *auth.Identity) (*auth.Identity, *Refusal) {
	if id == nil {
		var refusal *Refusal
		if id, refusal = r.awaitIdentity(ctx, q); refusal != nil {
			return nil, refusal
		}
	}
	return id, r.findRouteOf(ctx, s, q, id)
}

// findRouteOf is findRoute for who is known. Only who may use the session wakes it.
func (r *Router) findRouteOf(ctx context.Context, s stream, q *request, id *auth.Identity) *Refusal {
	var record sessions.Session
	err := q.method.retry(ctx, func() (err error) {
		record, err = r.record(ctx, id, q.session)
		return err
	})
	if err != nil {
		return r.refuseHeld(q, err)
	}
	if refusal := entitled(id, &record); refusal != nil {
		return refusal
	}
	if q.method.Rests && r.resolver.Asleep(record) {
		return r.rest(s, q, id)
	}
	var route *sessions.Route
	err = q.method.retry(ctx, func() (err error) {
		route, err = r.resolver.Lookup(ctx, q.session)
		return err
	})
	if err != nil {
		return r.refuseHeld(q, err)
	}
	a, refusal := r.admit(q, id, route)
	if refusal != nil {
		return refusal
	}
	r.enter(s, q, a)
	return nil
}

// retry asks the registry by ask. Where it is away, methods that their clients
// can't repeat by themselves ask again until ctx ends; the others are answered
// UNAVAILABLE with a RetryInfo, which serves them better.
func (m *method) retry(ctx context.Context, ask func() error) error {
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		err := ask()
		if err == nil || !m.patient || !errors.Is(err, sessions.ErrUnavailable) {
			return err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return err
		}
	}
}

// How long a held request waits before it asks an absent registry again.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 2 * time.Second
)

func (r *Router) refuseHeld(q *request, err error) *Refusal {
	row, ok := refuseRoute(err, string(q.session))
	switch {
	case ok:
	case errors.Is(err, context.Canceled):
		row = refuseDraining // or the client left, and nobody reads it
	default:
		row = r.internal("look up session", q.session, err)
	}
	return &row
}

// discardWithin is how long the rest of a plan may take to come that was given up.
const discardWithin = 10 * time.Second

// discard answers an ExecutePlan that no engine will get. Clients follow
// UNAVAILABLE with ReattachExecute for the same operation, and that must be told
// that the operation never started; so the rest of the plan is read, as far as
// its operation_id and no further than the window at a time. Only then is the
// answer UNAVAILABLE: without the id it is one that clients show at once.
func (r *Router) discard(s stream, q *request, by *auth.Identity, row *Refusal, waited time.Duration) {
	d := r.newDiscarded(s, q, by, row, refuseHeldTooLong.With("wait", waited.Round(time.Second).String()))
	s.Forward(r.nowhere, q.head, d)
	timer := time.NewTimer(discardWithin)
	defer timer.Stop()
	select {
	case <-s.Gone():
	case <-timer.C:
		d.expire()
	}
}

func (r *Router) newDiscarded(s stream, q *request, by *auth.Identity, row *Refusal, late Refusal) *discarded {
	d := &discarded{givenUp: givenUp{router: r, stream: s, by: by, session: q.session, row: row, late: late}, number: q.method.number}
	d.follow.Start(q.method.Schema)
	r.tally.start(d.number)
	return d
}

// discarded is the relay.Call of such a stream.
type discarded struct {
	givenUp
	number int
	meter  *meter // that it counts on; nil = none
}

// givenUp reads on in a plan of which no engine gets more, for its operation_id.
type givenUp struct {
	router  *Router
	stream  stream
	by      *auth.Identity // nil = not known
	session sessions.ID
	row     *Refusal // the answer once the operation is known
	late    Refusal  // the answer if it is not
	follow  relay.Follower
	timer   *time.Timer // of expire; nil = whoever holds the stream sees to it
}

// expire answers a plan that took too long to come.
func (d *givenUp) expire() { d.stream.Cut(d.late.Reply()) }

// stop has it expire no more.
func (d *givenUp) stop() {
	if d != nil && d.timer != nil {
		d.timer.Stop()
	}
}

// Edit is part of relay.Call. Nothing of p goes anywhere.
func (d *givenUp) Edit(p []byte, end bool, e *relay.Edits) relay.Verdict {
	e.Drop(len(p))
	for {
		n, event := d.follow.Next(p)
		p = p[n:]
		switch event {
		case relay.EventEnd:
			if op, ok := d.follow.Text(slotOperation); ok {
				d.router.unstarted.Remember(d.by, d.session, op)
			}
			e.Reply = d.answer(d.row)
			return relay.Cut
		case relay.EventNone:
			if !end {
				return relay.Wait
			}
			e.Reply = d.answer(&d.late)
			return relay.Cut
		case relay.EventMessage, relay.EventField: // on to its end
		default: // EventFault
			e.Reply = d.answer(&d.late)
			return relay.Cut
		}
	}
}

func (d *givenUp) answer(row *Refusal) *relay.Reply {
	d.router.tally.refuse(*row)
	return row.Reply()
}

// Broken is part of relay.Call. There is no backend, so it is the relay that
// could not wait for the body.
func (d *discarded) Broken(relay.Break) *relay.Reply { return d.answer(&d.late) }

// Done is part of relay.Call.
func (d *discarded) Done(st relay.Stats) {
	d.stop()
	d.meter.leave()
	d.router.tally.finish(d.number, st)
}

var errNowhere = errors.New("there is no backend for this stream")

func dialNowhere(context.Context) (net.Conn, error) { return nil, errNowhere }
