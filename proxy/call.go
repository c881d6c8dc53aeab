package proxy

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/encoding/protowire"
)

// method is a method of Spark Connect and how the router treats it.
type method struct {
	*Method
	number int // in the tally
	// starts: it starts an operation. Its clients take UNAVAILABLE for a broken
	// result and ask for the rest of it, so it is held rather than refused.
	starts bool
	// patient: its clients cannot repeat it by themselves, so it waits longer.
	patient bool
}

func newMethod(m *Method, number int) *method {
	starts := m.Shape == ServerStream && !m.Reattaches
	return &method{Method: m, number: number, starts: starts, patient: starts || m.Shape == ClientStream}
}

// call is one Spark Connect stream that was let in: all that it costs in memory
// here, in one piece.
type call struct {
	stamp
	liveStream

	router *Router
	stream stream
	method *method
	to     *admission
	began  time.Time
	// whole: the engine was given the end of the request, so it may run. Before
	// that it can't, since the stamp goes out with the end.
	whole  atomic.Bool
	ticket atomic.Pointer[sessions.Ticket] // of the journal, nil = the request is not in it, or is settled
	over   atomic.Bool                     // settle has looked for the ticket
	handed atomic.Bool                     // the answer ended for the client to take it up elsewhere
	given  *givenUp                        // the plan is only read on; nil = it is not
	// complete: the last message of the answer was the one that ends a result.
	complete atomic.Bool
}

func newCall(r *Router, s stream, m *method) *call {
	c := &call{router: r, stream: s, method: m, began: r.now()}
	c.liveStream.stream, c.runs = s, c
	return c
}

// enter counts the stream in where a leads. ok is false where it may not go
// there: ended says why, or else a has been swept away.
func (c *call) enter(a *admission) (ended *ending, ok bool) {
	if !a.engine.use() {
		return nil, false
	}
	c.token, c.generation = a.identity.TokenID, a.route.Session.Generation
	ended, ok = a.streams.join(&c.liveStream)
	if ended == nil && ok {
		if o := a.meter.enter(c.router.meters.at(c.began), c.method.asks()); o.limit != "" {
			c.leave()
			ended = newEnding(o.row())
			ended.quota = true
		}
	}
	if ended != nil || !ok {
		a.engine.release()
		return ended, false
	}
	c.to = a
	if c.method.Idles {
		a.route.LookOpened()
	} else {
		a.route.StreamOpened()
		a.route.Use()
	}
	a.note(c.router.uses, c.began)
	c.router.tally.start(c.method.number)
	c.begin(&c.router.stamps, a.user, c.method.Method, c)
	return nil, true
}

// Edit is part of relay.Call.
func (c *call) Edit(p []byte, end bool, e *relay.Edits) relay.Verdict {
	if c.given != nil {
		return c.given.Edit(p, end, e)
	}
	upload := c.method.Shape == ClientStream
	var now int64
	if upload {
		now = c.router.meters.at(c.router.now())
	}
	if upload && len(p) > 0 && c.fault == nil {
		c.fault = c.mayUpload(now)
	}
	v := c.stamp.Edit(p, end, e)
	if c.given != nil {
		return c.given.Edit(p[e.Used():], end, e)
	}
	if upload {
		c.to.meter.uploaded(now, e.Used())
	}
	if end && v == relay.Pass {
		c.whole.Store(true)
	}
	return v
}

// mayUpload says no where as many bytes of artifacts were sent as may be. The engine
// does not see the end of the upload then, so it takes none of it.
func (c *call) mayUpload(now int64) error {
	limit, wait := c.to.meter.uploadAfter(now)
	if limit == "" {
		return nil
	}
	row := refuseArtifacts.With("wait", ago(wait+time.Second-1)).over(limit, 0)
	if wait <= artifactPatience {
		row.RetryAfter = wait
	}
	return &refusedError{&row}
}

// UnderWay is part of relay.Gauge.
func (c *call) UnderWay(change int64) { c.to.meter.underWay(change) }

// Broken is part of relay.Call: the engine failed. What clients make of the
// answer decides it. UNAVAILABLE has an operation taken up again by
// ReattachExecute, or, by clients older than 3.5, run again from the start while
// the rows that came are kept: it is for operations that can be taken up again,
// and for requests of which nothing ran.
func (c *call) Broken(b relay.Break) *relay.Reply {
	a, session := c.to, string(c.to.route.Session.ID)
	if !b.Dialed {
		c.router.resolver.ReportFailure(a.route.Session.ID, a.route.Session.Generation)
	}
	row := refuseEngineLost
	switch ran := c.mayHaveRun(b); {
	case errors.Is(b.Err, relay.ErrMessageTooLong):
		row = refuseResultSize
	case ran && c.reattachable():
		row = refuseEngineBreak
	case ran:
	case !c.method.starts:
		row = refuseEngineAway
	case c.operation() != nil:
		c.router.unstarted.Remember(a.identity, a.route.Session.ID, c.operation())
		row = refuseEngineAway
	default: // the operation_id has not come: what follows could not be told apart
		row = refuseEngineStart
	}
	c.router.tally.refuse(row)
	return row.With("session", session).Reply()
}

// mayHaveRun: it is not certain that nothing of the request ran. An engine runs
// what it got whole, an upload as it comes, and nothing that it refused unseen.
func (c *call) mayHaveRun(b relay.Break) bool {
	if b.Headers {
		return true
	}
	return b.Sent && !errors.Is(b.Err, relay.ErrGoAway) && (c.whole.Load() || c.method.Shape == ClientStream)
}

// Done is part of relay.Call.
func (c *call) Done(st relay.Stats) {
	c.given.stop()
	c.noteOperation(st) // while a release can still find the stream
	c.leave()
	c.to.meter.leave()
	c.to.engine.release()
	c.settle(st)
	r := c.router
	if c.method.Idles {
		c.to.route.LookEnded()
	} else {
		c.to.route.StreamEnded()
	}
	r.tally.finish(c.method.number, st)
	level := r.logAt
	if st.Err != nil {
		level = max(level, zapcore.WarnLevel)
	}
	if ce := r.log.Check(level, "stream ended"); ce != nil {
		id := c.to.identity
		ce.Write(zap.String("method", c.method.Name), zap.String("code", endName(endOf(st))),
			zap.String("session", string(c.to.route.Session.ID)), zap.String("user", id.Subject), zap.String("org", id.Org), zap.String("token", id.TokenID), zap.String("credential", c.to.field),
			zap.String("cluster", c.to.route.Cluster.Name), zap.String("spark_session", string(c.spark())),
			zap.String("operation", printable(string(c.operation()))),
			zap.Uint64("in", st.In), zap.Uint64("out", st.Out), zap.Duration("took", r.now().Sub(c.began)), zap.Bool("handed_over", c.handed.Load()), zap.Error(st.Err))
	}
}

// noteOperation tells the route what became of the stream's operation. One that a
// client may come back for keeps its session busy until it is released, has failed, or
// was read to its end.
func (c *call) noteOperation(st relay.Stats) {
	op := c.operation()
	if op == nil {
		return
	}
	failed := st.Status != "" && st.Status != "0" && !st.Client
	switch {
	case c.method.Releases:
		if all, _ := c.follow.Varint(slotReleaseAll); all != 0 && st.Status == "0" {
			c.to.streams.release(op)
			c.to.route.OperationReleased(string(op))
		}
	case !c.resumable():
	case failed && st.Err == nil: // by the engine: there is no more of it
		c.to.route.OperationOver(string(op))
	case st.Status == "0" && !st.Reset && !st.Client && c.complete.Load(): // as good as released, by clients that end before they do it
		c.to.streams.release(op)
		c.to.route.OperationDone(string(op))
	case c.whole.Load():
		c.to.streams.unreleased(&c.liveStream, func() { c.to.route.OperationDetached(string(op), c.router.now()) })
	}
}

// resumable says that its answer is a result for which the client may come back.
func (c *call) resumable() bool {
	return c.reattachable() && (c.method.starts || c.method.Reattaches)
}

// Reads implements relay.Reader.
func (c *call) Reads() bool { return c.resumable() && c.operation() != nil }

// Read implements relay.Reader: it looks for result_complete.
func (c *call) Read(message []byte) {
	complete := false
	for p := message; len(p) > 0 && len(message) <= mostComplete; {
		field, _, n := protowire.ConsumeField(p)
		if n < 0 {
			complete = false
			break
		}
		complete = complete || field == fieldComplete
		p = p[n:]
	}
	if complete != c.complete.Load() {
		c.complete.Store(complete)
	}
}

// mostComplete is how long the message that ends a result may be: it has four ids and
// is some 200 bytes long.
const mostComplete = 1 << 10

// lasting implements operated. The request is read no more once it is whole.
func (c *call) lasting() []byte {
	if !c.whole.Load() || !c.reattachable() {
		return nil
	}
	return c.operation()
}

// errUnstarted: the operation is one that no engine has seen.
var errUnstarted = errors.New("operation did not start")

// sparkBound is part of stampHost. One whose client has to be told of a loss counts
// as not known.
func (c *call) sparkBound(id sessions.SparkID) bool {
	return c.to.route.Bound(id) && !c.mustTell(id)
}

// sparkBind is part of stampHost. The stream is held meanwhile.
func (c *call) sparkBind(id sessions.SparkID, answer func(error)) {
	if refusal := c.router.holds.enter(c.to.identity); refusal != nil {
		answer(&refusedError{refusal})
		return
	}
	go c.awaitBind(id, answer)
}

// refusedError carries a row of the table as an error.
type refusedError struct{ row *Refusal }

func (e *refusedError) Error() string { return "refused: " + e.row.Reason }

// awaitBind asks the registry, again and again where it is away and the client
// cannot repeat the request by itself.
func (c *call) awaitBind(id sessions.SparkID, answer func(error)) {
	r := c.router
	defer r.holds.leave(c.to.identity)
	ctx, cancel := r.holds.begin(c.stream, c.method)
	defer cancel()
	err := c.method.retry(ctx, func() error { return r.resolver.Prepare(ctx, c.to.route, id) })
	if err == nil && c.mustTell(id) {
		err = c.tell(ctx, id)
	}
	answer(err)
}

// resume is part of stampHost.
func (c *call) resume() { c.stream.Resume() }

// operates is part of stampHost. A plan that comes again after its operation was
// given up for unstarted may start now, and then it must not be denied.
func (c *call) operates(id []byte) error {
	if !c.method.starts && !c.method.Reattaches {
		return nil
	}
	if c.router.unstarted.Take(c.to.identity, c.to.route.Session.ID, id) && c.method.Reattaches {
		return errUnstarted
	}
	return nil
}

// refuse is part of stampHost. Nothing of the request ran. A plan whose client is to
// send it again is read on for its operation_id, without which it would ask an engine
// for what never came there; the reply is nil then.
func (c *call) refuse(fault error) *relay.Reply {
	row, ok := c.refusal(fault)
	if !ok {
		row = c.router.internal("check request", c.to.route.Session.ID, fault)
	}
	if late, again := c.late(fault); again {
		op := c.operation()
		if op == nil && !c.ended {
			c.readOn(&row, late)
			return nil
		}
		c.router.unstarted.Remember(c.to.identity, c.to.route.Session.ID, op)
	}
	c.router.tally.refuse(row)
	return row.Reply()
}

// late says whether the client of a plan that no engine has whole is to send it again
// by itself, and what it reads where the rest of the plan does not come.
func (c *call) late(fault error) (late Refusal, again bool) {
	switch {
	case !c.method.starts:
	case errors.Is(fault, sessions.ErrEngineAway):
		return refuseEngineStart.With("session", string(c.to.route.Session.ID)), true
	case errors.Is(fault, sessions.ErrUnavailable), errors.Is(fault, sessions.ErrPending), errors.Is(fault, context.DeadlineExceeded):
		return refuseHeldTooLong.With("wait", c.router.holds.long.String()), true
	}
	return Refusal{}, false
}

// readOn has the rest of a plan go nowhere.
func (c *call) readOn(row *Refusal, late Refusal) {
	c.given = &givenUp{router: c.router, stream: c.stream, by: c.to.identity, session: c.to.route.Session.ID, row: row, late: late, follow: c.follow}
	c.given.timer = time.AfterFunc(discardWithin, c.given.expire)
}

func (c *call) refusal(fault error) (Refusal, bool) {
	var known *refusedError
	switch {
	case errors.As(fault, &known):
		return *known.row, true
	case errors.Is(fault, errUnstarted):
		return refuseOperation, true
	case errors.Is(fault, context.Canceled):
		return refuseDraining, true // or the client left, and nobody reads it
	}
	if row, ok := refuseBody(fault); ok {
		return row, true
	}
	return refuseRoute(fault, string(c.to.route.Session.ID))
}

// newSparkID makes the id of a session that a client cloned without naming it.
func newSparkID() (sessions.SparkID, error) {
	id, err := uuid.NewRandom()
	return sessions.SparkID(id.String()), err
}
