package sessions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/auth"
)

// Engine is the Manager's word to the server behind a cluster. EngineClient is one.
type Engine interface {
	// Probe asks once whether the cluster answers. ErrRefused where asking again
	// would not help.
	Probe(ctx context.Context, c *Cluster) error
	// Version asks the engine which Spark it is, in a Spark session of its own that
	// is released afterwards.
	Version(ctx context.Context, c *Cluster) (string, error)
	// Prepare brings a Spark session that is new to the engine to what s chose.
	// *SetupError where it can't be; ErrRefused, ErrEngineAway.
	Prepare(ctx context.Context, c *Cluster, s Session, spark SparkID) error
	// Release lets the engine forget Spark sessions of that user.
	Release(ctx context.Context, c *Cluster, user string, ids []SparkID) error
}

// TokenIssuer signs tokens. *auth.Issuer is one.
type TokenIssuer interface {
	Issue(auth.Grant) (token string, id *auth.Identity, err error)
}

// ManagerConfig is what a Manager is made of.
type ManagerConfig struct {
	Store    Store       // required
	Tokens   TokenStore  // required; mostly the Store
	Keys     KeyStore    // mostly the Store; nil = there are no API keys
	Engine   Engine      // required
	Issuer   TokenIssuer // required
	Waker    *Waker      // required; of the same Store
	Clusters Clusters

	// Audit takes every decision, beside the log; nil = the log alone.
	Audit AuditTrail
	// Deadlines names the sessions whose maximum age is over; mostly the Store.
	// nil = none is closed for its age.
	Deadlines Deadlines
	// SweepEvery is how often it is asked. 0 = 1 s.
	SweepEvery time.Duration
	// OnClosed is called once a close is recorded and before Close returns, so
	// that this replica's streams are cut at once; why is an ErrClosed. It is
	// called again when the session is closed again, must not block, and may come
	// from any goroutine. nil = nobody wants to know.
	OnClosed func(id ID, why error)
	// ReleaseDelay is how long after a close the engine is told: by then every
	// replica has cut the session's streams, so that their users read that it was
	// closed and not what the engine says of a query whose session went away. It
	// should be no less than ResolverConfig.Trust. Replicas that hear of it later tell
	// the engine again: ResolverConfig.OnLate. 0 = 2 s.
	ReleaseDelay time.Duration
	// ReleaseTimeout is how long the engine then has to forget one session, and
	// at the end of Run all those that still wait. 0 = 2 s.
	ReleaseTimeout time.Duration
	// TokenLifetime is the life of a token for which none was asked. 0 = 1 h.
	TokenLifetime time.Duration
	// Operators are those who may drain and resume clusters; empty = nobody.
	Operators []Operator
	// MaxTokenLifetime is the longest one may ask for; the issuer must allow it.
	// 0 = 24 h.
	MaxTokenLifetime time.Duration

	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Random makes ids; nil = crypto/rand.
	Random io.Reader
	// Logger gets the audit lines, by the name "audit", and what goes wrong on
	// the side; nil = none.
	Logger *zap.Logger
}

// Manager is the operations on sessions. Each starts with checkAndAudit. Methods
// are safe for any goroutine and for any number of replicas; all of them may
// return ErrDenied and ErrUnavailable.
type Manager struct {
	ManagerConfig
	audit  *zap.Logger
	closed *backlog
	reach  reach
}

// NewManager checks c and starts nothing. Call Run, or no engine hears of a close.
func NewManager(c ManagerConfig) (*Manager, error) {
	if c.Store == nil || c.Tokens == nil || c.Engine == nil || c.Issuer == nil || c.Waker == nil {
		return nil, errors.New("manager: store, tokens, engine, issuer and waker are needed")
	}
	setDefault(&c.SweepEvery, time.Second)
	setDefault(&c.ReleaseDelay, 2*time.Second)
	setDefault(&c.ReleaseTimeout, 2*time.Second)
	setDefault(&c.MaxTokenLifetime, 24*time.Hour)
	setDefault(&c.TokenLifetime, min(time.Hour, c.MaxTokenLifetime))
	if c.TokenLifetime > c.MaxTokenLifetime {
		return nil, fmt.Errorf("manager: token lifetime %s is above its maximum %s", c.TokenLifetime, c.MaxTokenLifetime)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.OnClosed == nil {
		c.OnClosed = func(ID, error) {}
	}
	return &Manager{ManagerConfig: c, audit: c.Logger.Named("audit"), closed: newBacklog()}, nil
}

// Describe returns one session.
func (m *Manager) Describe(ctx context.Context, a Actor, id ID) (Session, error) {
	s, entry, err := m.checkAndAudit(ctx, a, ActionDescribe, id)
	if err != nil {
		return Session{}, err
	}
	entry.end(nil)
	return m.shown(s), nil
}

// shown is a record as people see it: who was waking the session for longer than a wake
// may take was killed meanwhile. The registry's clock and ours are some seconds apart.
func (m *Manager) shown(s Session) Session {
	if m.Now().Sub(s.StageAt) > m.Waker.Timeout {
		s.Stage, s.StageAt = "", time.Time{}
	}
	return s
}

// ListRequest says which sessions to list.
type ListRequest struct {
	// Org lists the whole organisation, for its admins; else the actor's own.
	Org bool
	// Closed: closed sessions too.
	Closed bool
	// Name: only the actor's own open session of that name; "" = any.
	Name string
	// Labels: only sessions that have all of these; empty = any.
	Labels map[string]string
	// Size is the most sessions a page holds. 0 = 50; above 500 = 500.
	Size int
	// After is Page.Next of the page before; "" = from the newest.
	After ID
}

const (
	defaultPage = 50
	maxPage     = 500
)

func (r ListRequest) validate() error {
	switch {
	case r.Size < 0:
		return &InvalidError{"page_size", "must not be negative"}
	case r.After != "" && !r.After.Valid():
		return &InvalidError{"page_token", "is not one that a list returned"}
	case r.Org && r.Name != "":
		return &InvalidError{"name", "selects one of your own sessions, not of the organisation"}
	}
	return ValidLabels(r.Labels)
}

// List returns one page of sessions, the newest first. *InvalidError.
func (m *Manager) List(ctx context.Context, a Actor, r ListRequest) (p Page, err error) {
	action, owner := ActionList, a.Subject
	if r.Org {
		action, owner = ActionListOrg, ""
	}
	_, entry, err := m.checkAndAudit(ctx, a, action, "")
	if err != nil {
		return Page{}, err
	}
	defer func() { entry.end(err) }()
	if err := r.validate(); err != nil {
		return Page{}, err
	}
	size := min(r.Size, maxPage)
	setDefault(&size, defaultPage)
	p, err = m.Store.List(ctx, Query{Org: a.Org, Owner: owner, Name: r.Name, Closed: r.Closed, Labels: r.Labels, After: r.After, Limit: size})
	for i, s := range p.Sessions {
		p.Sessions[i] = m.shown(s)
	}
	return p, err
}
