package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Resolver is the part of sessions.Resolver that routing needs; its comments
// name the errors.
type Resolver interface {
	TryLookup(id sessions.ID) (*sessions.Route, bool)
	Record(ctx context.Context, id sessions.ID) (sessions.Session, error)
	Asleep(s sessions.Session) bool
	Lookup(ctx context.Context, id sessions.ID) (*sessions.Route, error)
	ReportFailure(id sessions.ID, generation uint64)
	Bind(ctx context.Context, route *sessions.Route, spark sessions.SparkID) error
	Prepare(ctx context.Context, route *sessions.Route, spark sessions.SparkID) error
}

// TokenUses hears of the use of tokens. *sessions.TokenUses is one.
type TokenUses interface {
	Note(session sessions.ID, token string, at time.Time)
}

// RouterConfig is what a Router is made of.
type RouterConfig struct {
	// Verifier checks tokens. Required.
	Verifier TokenVerifier
	// Resolver finds the routes of sessions. Required.
	Resolver Resolver
	// Live is told of every stream; its End is the Resolver's OnEnd. Required.
	Live *Live
	// Engines makes the backend of a cluster, once for each. It must not dial:
	// it is called where nothing may block. Required; see EngineDialer.
	Engines func(*sessions.Cluster) (*relay.Backend, error)
	// Services are Sconce's own; none may be empty in Name or Prefix.
	Services []Service
	// Own bounds the calls of those.
	Own OwnLimits
	// MaxMessage bounds the declared length of one request message, in bytes; 0
	// = no bound.
	MaxMessage uint64
	// HoldTimeout is how long a request that a client cannot repeat by itself
	// (ExecutePlan, AddArtifacts) waits for its session or for the registry.
	// 0 = 120 s.
	HoldTimeout time.Duration
	// UnaryHold is how long every other request waits for a session that is
	// starting. With the registry away these do not wait at all: UNAVAILABLE with
	// a RetryInfo serves them better. 0 = 30 s, and never more than HoldTimeout.
	UnaryHold time.Duration
	// MaxHeld is how many streams may wait at once, those of one owner a tenth
	// of it, those of one organisation three tenths. 0 = 10,000.
	MaxHeld int
	// Quotas bound what one tenant may do; the zero value bounds nothing.
	Quotas Quotas
	// Sweep is how often engines and sessions without streams are looked at; what is
	// found unused twice is forgotten. 0 = 5 min.
	Sweep time.Duration
	// Uses hears which tokens let a request in, each about once a minute for each
	// connection. It must not block. nil = nobody wants to know.
	Uses TokenUses
	// Journal records what makes the state of Spark sessions; nil = nothing is
	// recorded. JournalLimits bounds what is kept meanwhile.
	Journal       Journal
	JournalLimits JournalLimits
	// Unstarted remembers operations that no engine saw; nil = in this process.
	Unstarted Unstarted
	// Registerer takes the collector; nil = none.
	Registerer prometheus.Registerer
	// Logger; nil = none. Streams are logged at StreamLevel as they end (the
	// zero value is Info), refusals and faults of engines by their weight.
	Logger      *zap.Logger
	StreamLevel zapcore.Level
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Router decides where each stream of the port goes. It is the relay.Router:
// Route may be called by any number of connections at once, and needs Run
// beside it.
type Router struct {
	verifier   TokenVerifier
	resolver   Resolver
	live       *Live
	engines    engines
	services   services
	methods    map[string]*method // by :path
	answers    *relay.Schema      // of what is read of an answer: see handover.go
	stamps     stampConfig
	unstarted  Unstarted
	uses       TokenUses
	journal    Journal // nil = none
	tally      *tally
	log        *zap.Logger
	logAt      zapcore.Level
	now        func() time.Time
	sweepEvery time.Duration

	meters   *meters
	throttle *throttle
	holds    holds
	own      OwnLimits
	seats    [2]*seats      // of own services that want a credential, and of others
	nowhere  *relay.Backend // for streams that no backend will get

	boot     string // tells the request ids of two processes apart
	requests atomic.Uint64
}

// NewRouter checks cfg and starts nothing: call Run.
func NewRouter(cfg RouterConfig) (*Router, error) {
	cfg.defaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	r := &Router{
		verifier: cfg.Verifier, resolver: cfg.Resolver, live: cfg.Live,
		engines:   engines{dial: cfg.Engines, known: make(map[engineKey]*engine)},
		methods:   make(map[string]*method),
		stamps:    stampConfig{MaxMessage: cfg.MaxMessage, NewID: newSparkID},
		unstarted: cfg.Unstarted, uses: cfg.Uses, journal: cfg.Journal,
		own: cfg.Own,
		log: cfg.Logger, logAt: cfg.StreamLevel, now: cfg.Now, sweepEvery: cfg.Sweep,
		boot: strconv.FormatInt(cfg.Now().UnixMilli(), 36),
	}
	if cfg.Journal != nil {
		r.stamps.Captures = cfg.JournalLimits.captures()
	}
	methods, err := sparkMethods()
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	if r.answers, err = handoverSchema(); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	r.meters, r.throttle = newMeters(cfg.Quotas, cfg.Now), newThrottle()
	r.tally = newTally(r.number(methods, cfg.Services), &r.meters.process)
	r.holds.init(cfg)
	if r.nowhere, err = relay.NewBackend(relay.BackendConfig{Name: "nowhere", Dial: dialNowhere}); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(r.tally); err != nil {
			return nil, fmt.Errorf("router: register metrics: %w", err)
		}
	}
	return r, nil
}

func (c *RouterConfig) defaults() {
	setZero(&c.HoldTimeout, 120*time.Second)
	setZero(&c.UnaryHold, 30*time.Second)
	setZero(&c.MaxHeld, 10_000)
	setZero(&c.Sweep, 5*time.Minute)
	setZero(&c.Own.Within, 10*time.Second)
	c.UnaryHold = min(c.UnaryHold, c.HoldTimeout)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Unstarted == nil {
		c.Unstarted = newUnstarted(c.Now)
	}
}

func setZero[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c *RouterConfig) check() error {
	switch {
	case c.Verifier == nil, c.Resolver == nil, c.Live == nil, c.Engines == nil:
		return errors.New("Verifier, Resolver, Live and Engines are required")
	case c.Quotas.negative():
		return errors.New("a quota is negative")
	case c.HoldTimeout < 0, c.UnaryHold < 0, c.MaxHeld < 0, c.Sweep < 0, c.Own.Within < 0, c.Own.Calls < 0:
		return errors.New("a time or a bound is negative")
	}
	for _, s := range c.Services {
		if s.Name == "" || s.Prefix == "" || s.Backend == nil {
			return fmt.Errorf("service %q for %q: name, prefix and backend are required", s.Name, s.Prefix)
		}
	}
	return nil
}

// number gives every method and service its place in the tally, and returns
// their labels.
func (r *Router) number(methods map[string]*Method, list []Service) (labels []string) {
	for path, m := range methods {
		r.methods[path] = newMethod(m, len(labels))
		labels = append(labels, m.Name)
	}
	r.seats = [2]*seats{newSeats(r.own.Calls, false), newSeats(r.own.Calls, true)}
	for _, s := range list {
		seats := r.seats[0]
		if s.Open {
			seats = r.seats[1]
		}
		r.services = append(r.services, &service{
			name: s.Name, prefix: s.Prefix, backend: s.Backend, grpc: s.GRPC, open: s.Open, seats: seats, number: len(labels),
		})
		labels = append(labels, "sconce:"+s.Name)
	}
	return labels
}

// Run forgets what is no longer used until ctx ends; then it ends the streams
// that are held, waits for them, and closes the engines. To be called after the
// relay's server has drained.
func (r *Router) Run(ctx context.Context) error {
	tick := time.NewTicker(r.sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.live.Sweep()
			r.engines.sweep()
		case <-ctx.Done():
			r.holds.close()
			r.engines.close()
			r.nowhere.Close()
			return nil
		}
	}
}

// Route decides about one stream; it never blocks. It is part of relay.Router.
func (r *Router) Route(s *relay.Stream) { r.route(s) }

// stream is what routing does with a relay.Stream.
type stream interface {
	Header() *relay.Header
	Peer() *relay.Peer
	Forward(b *relay.Backend, h *relay.Header, call relay.Call)
	Refuse(reply *relay.Reply)
	Resume()
	Cut(reply *relay.Reply)
	Gone() <-chan struct{}
}

func (r *Router) route(s stream) {
	h := s.Header()
	q, ok := h.Memo.(*request)
	if !ok {
		q = r.readRequest(h, s.Peer())
		h.Memo = q
	}
	switch {
	case q.refused != nil:
		r.refuse(s, q, q.refused)
	case q.service != nil:
		r.serve(s, q)
	default:
		r.routeSession(s, q)
	}
}

// routeSession takes the way of a Spark Connect request: the token, the
// session, the engine.
func (r *Router) routeSession(s stream, q *request) {
	id, refusal := r.identify(q)
	if refusal != nil && refusal.Reason == refuseIssuerAway.Reason {
		r.hold(s, q, nil) // until it is known who it is
		return
	}
	if refusal != nil {
		r.refuse(s, q, refusal)
		return
	}
	route, ok := r.resolver.TryLookup(q.session)
	if !ok {
		r.hold(s, q, id)
		return
	}
	a := q.last
	if a == nil || a.route != route || a.identity != id {
		if a, refusal = r.admit(q, id, route); refusal != nil {
			r.refuse(s, q, refusal)
			return
		}
	}
	q.last = r.enter(s, q, a)
}

// admission is a request that may pass: who it is, where to, and the header
// that goes there. It is immutable but for noted, so the streams that share it need
// no lock.
type admission struct {
	identity *auth.Identity
	route    *sessions.Route
	user     *stampUser
	engine   *engine
	streams  *liveSession
	meter    *meter
	field    string // as in request
	out      *relay.Header

	noted atomic.Int64 // when Uses heard of it last, ns since 1970
}

// useEvery is how often Uses hears of one admission.
const useEvery = time.Minute

// note tells Uses that the token let a request in.
func (a *admission) note(uses TokenUses, now time.Time) {
	last := a.noted.Load()
	if uses == nil || now.UnixNano()-last < int64(useEvery) || !a.noted.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	uses.Note(a.route.Session.ID, a.identity.TokenID, now)
}

// admit holds the token against the session in the registry.
func (r *Router) admit(q *request, id *auth.Identity, route *sessions.Route) (*admission, *Refusal) {
	if refusal := entitled(id, &route.Session); refusal != nil {
		return nil, refusal
	}
	user, err := newStampUser(id.Subject)
	if err != nil {
		row := r.internal("stamp user", q.session, err)
		return nil, &row
	}
	e, err := r.engines.of(route.Cluster)
	if errors.Is(err, errEnginesClosed) {
		return nil, &refuseDraining
	}
	if err != nil {
		row := r.internal("find engine", q.session, err)
		return nil, &row
	}
	streams := r.live.session(q.session)
	return &admission{
		identity: id, route: route, user: user, engine: e,
		streams: streams, meter: r.meters.of(streams, id), field: q.field,
		out: engineHeader(q.head, e, route.Carries()),
	}, nil
}

// entitled says whether a token opens the session: it is its owner's and not revoked.
func entitled(id *auth.Identity, s *sessions.Session) *Refusal {
	if !owns(id, s) {
		return &refuseDenied
	}
	if sessions.IsRevoked(s.Revoked, id.TokenID) {
		row := refuseTokenRevoked.With("session", string(s.ID))
		return &row
	}
	return nil
}

// enter forwards the stream, and returns the admission that it went by: engine
// or session entry may have been swept away since a was made.
func (r *Router) enter(s stream, q *request, a *admission) *admission {
	c := newCall(r, s, q.method)
	for {
		ended, ok := c.enter(a)
		if ok {
			s.Forward(a.engine.backend, a.out, c)
			return a
		}
		if ended != nil && ended.quota {
			r.refuseOver(s, q, a, ended)
			return a
		}
		if ended != nil {
			r.tally.refuse(ended.row)
			s.Refuse(ended.reply)
			return nil
		}
		again, refusal := r.admit(q, a.identity, a.route)
		if refusal != nil {
			r.refuse(s, q, refusal)
			return nil
		}
		a = again
	}
}

// refuseOver answers a stream that is past a quota. Clients follow a RetryInfo on
// ExecutePlan with ReattachExecute, so that needs the operation_id first.
func (r *Router) refuseOver(s stream, q *request, a *admission, e *ending) {
	if !q.method.starts {
		r.tally.refuse(e.row)
		s.Refuse(e.reply)
		return
	}
	last := e.row
	last.RetryAfter = 0
	if o := a.meter.enter(0, asksNothing); o.limit != "" {
		r.tally.refuse(e.row)
		s.Refuse(newEnding(last).reply)
		return
	}
	d := r.newDiscarded(s, q, a.identity, &e.row, last)
	d.meter = a.meter
	d.timer = time.AfterFunc(discardWithin, d.expire)
	s.Forward(r.nowhere, q.head, d)
}

// refuse answers in the dress that the request came in.
func (r *Router) refuse(s stream, q *request, row *Refusal) {
	r.tally.refuse(*row)
	if ce := r.log.Check(zap.DebugLevel, "request refused"); ce != nil {
		ce.Write(zap.String("reason", row.Reason), zap.String("session", printable(string(q.session))), zap.Stringer("peer", s.Peer().Addr))
	}
	if q.grpc {
		s.Refuse(row.Reply())
	} else {
		s.Refuse(row.PlainReply())
	}
}

// TooLarge is relay.TooLarge. The content-type may be among the fields that are
// not there any more, so the path says what is gRPC too.
func (r *Router) TooLarge(h *relay.Header) *relay.Reply {
	r.tally.refuse(refuseHeaders)
	if _, spark := r.methods[h.Get(":path")]; spark || grpcContentType(h.Get("content-type")) {
		return refuseHeaders.Reply()
	}
	return refuseHeaders.PlainReply()
}

// internal logs an error that the table has no row for, and names the log line
// in the answer.
func (r *Router) internal(doing string, session sessions.ID, err error) Refusal {
	id := r.boot + "-" + strconv.FormatUint(r.requests.Add(1), 36)
	r.log.Error("internal error", zap.String("request", id), zap.String("doing", doing),
		zap.String("session", string(session)), zap.Error(err))
	return Internal(id)
}
