package proxy

import (
	"context"
	"strconv"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/grpc/codes"
)

// Journal is the part of sessions.Journal that calls need; its comments name the
// errors.
type Journal interface {
	Begin(ctx context.Context, id sessions.ID, spark sessions.SparkID, e *sessions.Entry) (sessions.Ticket, error)
	Clone(ctx context.Context, id sessions.ID, from, to sessions.SparkID) (sessions.Ticket, error)
	Settle(t sessions.Ticket, commit bool)
	Forget(id sessions.ID, spark sessions.SparkID)
	Tell(ctx context.Context, s *sessions.Session, spark sessions.SparkID, c sessions.Carried) (string, error)
}

// JournalLimits bounds what a process keeps of requests for the journal, in bytes.
// Zero fields mean the defaults.
type JournalLimits struct {
	// Entry is the most that is kept of one request. 0 = 8 MiB.
	Entry int
	// Artifacts is the most that is kept of one upload. 0 = 64 MiB.
	Artifacts int
	// InFlight is the most that is kept of all requests which are on their way.
	// 0 = 64 MiB.
	InFlight int64
}

func (l JournalLimits) captures() *captureConfig {
	setZero(&l.Entry, 8<<20)
	setZero(&l.Artifacts, 64<<20)
	setZero(&l.InFlight, 64<<20)
	return &captureConfig{entry: l.Entry, artifacts: l.Artifacts, inFlight: l.InFlight}
}

// journals is part of stampHost. A cluster that is an address keeps its state itself.
func (c *call) journals() bool {
	return c.router.journal != nil && c.to.route.Cluster.Launcher != nil
}

// record is part of stampHost. The stream is held meanwhile: what the journal does
// not know, the engine does not get whole.
func (c *call) record(kept *capture, answer func(error)) {
	own := kept.move()
	if refusal := c.router.holds.enter(c.to.identity); refusal != nil {
		own.release()
		answer(&refusedError{refusal})
		return
	}
	go c.awaitRecord(own, answer)
}

func (c *call) awaitRecord(kept *capture, answer func(error)) {
	r := c.router
	defer r.holds.leave(c.to.identity)
	ctx, cancel := r.holds.begin(c.stream, c.method)
	defer cancel()
	e, err := kept.entry(ctx, c.method.Name)
	if e == nil || err != nil {
		kept.release()
		answer(err)
		return
	}
	err = c.method.retry(ctx, func() error {
		t, err := r.journal.Begin(ctx, c.to.route.Session.ID, c.spark(), e)
		if err == nil {
			c.begun(&t)
		}
		return err
	})
	kept.release()
	answer(err)
}

// begun notes an entry. Of a call that is over meanwhile the engine never had the request
// whole: it was held for this.
func (c *call) begun(t *sessions.Ticket) {
	c.ticket.Store(t)
	if c.over.Load() && c.ticket.Swap(nil) != nil {
		c.router.journal.Settle(*t, false)
	}
}

// sparkClone is part of stampHost. A session that is cloned has all from the one it is
// a clone of.
func (c *call) sparkClone(from, to sessions.SparkID, answer func(error)) {
	if !c.journals() && c.to.route.Bound(to) {
		answer(nil)
		return
	}
	if refusal := c.router.holds.enter(c.to.identity); refusal != nil {
		answer(&refusedError{refusal})
		return
	}
	go c.awaitClone(from, to, answer)
}

func (c *call) awaitClone(from, to sessions.SparkID, answer func(error)) {
	r := c.router
	defer r.holds.leave(c.to.identity)
	ctx, cancel := r.holds.begin(c.stream, c.method)
	defer cancel()
	err := c.method.retry(ctx, func() error { return r.resolver.Bind(ctx, c.to.route, to) })
	if err == nil && c.journals() {
		var t sessions.Ticket
		if t, err = r.journal.Clone(ctx, c.to.route.Session.ID, from, to); err == nil {
			c.begun(&t)
		}
	}
	answer(err)
}

// settle tells the journal how the request ended. An entry is taken back only where
// it is certain that the engine refused the request, or never had it whole; where a
// stream broke or was cut, what became of the act is not known, and it stays begun.
func (c *call) settle(st relay.Stats) {
	c.capture.release()
	done := st.Status == "0" && st.Err == nil
	if done && c.method.Name == "ReleaseSession" && c.journals() {
		c.router.journal.Forget(c.to.route.Session.ID, c.spark())
	}
	c.over.Store(true)
	t := c.ticket.Swap(nil)
	switch {
	case t == nil:
	case done:
		c.router.journal.Settle(*t, true)
	case !c.whole.Load(), st.Err == nil && refused(st.Status):
		c.router.journal.Settle(*t, false)
	}
}

// refused says that a status is an engine's word that it did not do what was asked,
// and not one for a call that was ended from outside.
func refused(status string) bool {
	for _, c := range [...]codes.Code{
		codes.Unknown, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.ResourceExhausted,
		codes.OutOfRange, codes.Unimplemented, codes.Internal,
	} {
		if status == strconv.Itoa(int(c)) {
			return true
		}
	}
	return false
}

// mustTell says whether a request is the one to be answered with what the engine
// lost of its Spark session.
func (c *call) mustTell(id sessions.SparkID) bool {
	return c.method.Tells && c.to.route.Spark(id).Untold()
}

// tell returns what was lost as a refusal, or nil if somebody else has told it.
func (c *call) tell(ctx context.Context, id sessions.SparkID) error {
	spark, s := c.to.route.Spark(id), &c.to.route.Session
	what, err := c.router.journal.Tell(ctx, s, id, spark.Carried)
	if err != nil {
		return err
	}
	spark.Told()
	if what == "" {
		return nil
	}
	row := refuseStateLost.With("session", string(s.ID)).withLong("lost", what)
	return &refusedError{&row}
}
