package openid

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/auth"
)

// Config is what an Issuer is made of.
type Config struct {
	// Issuer is the URL that is the iss of its tokens, exactly. Required.
	Issuer string
	// JWKS is where its keys are; "" = discovery says it.
	JWKS string
	// Gap is the least time between the begin of two fetches. 0 = 10 s.
	Gap time.Duration
	// Refresh is how often the keys are fetched unasked: a key that was withdrawn
	// is dead after that long at most, while the issuer answers. 0 = 5 min.
	Refresh time.Duration
	// Timeout is how long one fetch may take, discovery included. 0 = 5 s.
	Timeout time.Duration
	// Transport makes the requests; nil = one of its own. Proxies are taken from
	// the environment.
	Transport http.RoundTripper
	// OnState is told of every change: "" = the keys were fetched, else why they
	// could not be. It must not block. nil = nobody wants to know.
	OnState func(fault string)
	// Logger hears of changes; nil = silence.
	Logger *zap.Logger
}

// Issuer is an outside issuer whose keys are fetched.
type Issuer struct {
	Config
	keys   *auth.PublishedKeys
	client *http.Client
	wake   chan struct{} // holds one: somebody waits for a fetch

	mu      sync.Mutex
	due     bool          // a fetch may begin now, or is under way
	done    chan struct{} // closed when that fetch has ended
	fault   string        // of the last fetch; "" = it was good
	fetched bool          // one was good
}

// NewIssuer checks c and fetches nothing: call Run.
func NewIssuer(c Config) (*Issuer, error) {
	for _, u := range []struct{ what, url string }{{"issuer", c.Issuer}, {"jwks_url", c.JWKS}} {
		if u.url == "" && u.what != "issuer" {
			continue
		}
		if err := CheckURL(u.url); err != nil {
			return nil, fmt.Errorf("openid: %s %q %w", u.what, u.url, err)
		}
	}
	setDefault(&c.Gap, 10*time.Second)
	setDefault(&c.Refresh, 5*time.Minute)
	setDefault(&c.Timeout, 5*time.Second)
	if c.OnState == nil {
		c.OnState = func(string) {}
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	c.Logger = c.Logger.With(zap.String("issuer", c.Issuer))
	if c.Transport == nil {
		c.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	i := &Issuer{
		Config: c, wake: make(chan struct{}, 1), due: true, done: make(chan struct{}),
		client: &http.Client{Transport: strict{c.Transport}},
	}
	i.keys = auth.NewPublishedKeys(i.missing)
	return i, nil
}

func setDefault(v *time.Duration, def time.Duration) {
	if *v <= 0 {
		*v = def
	}
}

// Keys are the issuer's, as they were fetched last.
func (i *Issuer) Keys() *auth.PublishedKeys { return i.keys }

// Name is its URL.
func (i *Issuer) Name() string { return i.Issuer }

// missing is what auth asks about a key that is not there. Where a fetch may
// begin it asks for one, once for all who come until it ends.
func (i *Issuer) missing() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.due:
		select {
		case i.wake <- struct{}{}:
		default:
		}
		return &auth.PendingError{Done: i.done}
	case i.fault != "":
		return auth.ErrIssuerAway
	}
	return auth.ErrUnknownKey
}

// Run fetches at once, again after each Refresh and whenever a token names a key
// that is not there, until ctx ends. While the issuer is away it tries again
// after each Gap. It returns nil.
func (i *Issuer) Run(ctx context.Context) error {
	defer i.client.CloseIdleConnections()
	for {
		gap := time.NewTimer(i.Gap) // from the begin of the fetch
		good := i.round(ctx)
		select {
		case <-gap.C:
		case <-ctx.Done():
			gap.Stop()
			return nil
		}
		i.open()
		if !good {
			continue
		}
		refresh := time.NewTimer(i.Refresh - i.Gap)
		select {
		case <-i.wake:
		case <-refresh.C:
		case <-ctx.Done():
		}
		refresh.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// open lets the next token of an unknown key ask for a fetch.
func (i *Issuer) open() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.due, i.done = true, make(chan struct{})
}

// maxFault bounds the reason of a failed fetch: what an issuer answers may be in it.
const maxFault = 500

// round is one fetch, and the end of the wait for it.
func (i *Issuer) round(ctx context.Context) (good bool) {
	err := i.refetch(ctx)
	if ctx.Err() != nil {
		err = errors.New("stopping")
	}
	fault := ""
	if err != nil {
		fault = err.Error()
		fault = strings.ToValidUTF8(fault[:min(len(fault), maxFault)], "")
	}
	i.mu.Lock()
	changed := fault != i.fault || !i.fetched && fault == ""
	i.fault, i.fetched, i.due = fault, i.fetched || fault == "", false
	select {
	case <-i.wake: // whoever asked has been served
	default:
	}
	close(i.done)
	i.mu.Unlock()
	if changed && ctx.Err() == nil {
		i.tell(fault)
	}
	return err == nil
}

func (i *Issuer) tell(fault string) {
	i.OnState(fault)
	if fault == "" {
		i.Logger.Info("the issuer's keys were fetched", zap.Strings("keys", i.keys.KeyIDs()))
		return
	}
	i.Logger.Warn("the issuer's keys cannot be fetched, those that are known stay", zap.String("reason", fault))
}
