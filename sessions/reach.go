package sessions

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.uber.org/zap"
)

const (
	// reachTimeout is how long a cluster that is an address has to answer whoever
	// looks at it, and then to say its version; reachFor how long its answer is not
	// asked for again, versionFor how long its version is not.
	reachTimeout = time.Second
	reachFor     = 5 * time.Second
	versionFor   = time.Minute
	// maxVersion is how long a version may be, in bytes.
	maxVersion = 64
)

// reach remembers which addresses answered. Its zero value is empty.
type reach struct {
	mu    sync.Mutex
	known map[string]*reached
}

type reached struct {
	mu  sync.Mutex // held while it is asked
	at  time.Time
	err error
	// version is "" where it is not known, and versionAt zero then.
	version   string
	versionAt time.Time
}

func (r *reach) of(cluster string) *reached {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string]*reached{}
	}
	if r.known[cluster] == nil {
		r.known[cluster] = &reached{}
	}
	return r.known[cluster]
}

// probe says whether an address answers, or did some seconds ago, and which Spark it is,
// or was a minute ago; "" = it does not tell.
func (m *Manager) probe(ctx context.Context, c *Cluster) (version string, err error) {
	r := m.reach.of(c.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := m.Now(); r.at.IsZero() || now.Sub(r.at) >= reachFor {
		m.ask(context.WithoutCancel(ctx), c, r)
	}
	return r.version, r.err
}

// EngineVersion is which Spark the engine of an active session is, or was a minute ago;
// "" = that is not known.
func (m *Manager) EngineVersion(ctx context.Context, s Session) string {
	c := m.Clusters[s.Cluster]
	if s.State != Active || c == nil {
		return ""
	}
	if c.Launcher != nil {
		if s.Engine == nil {
			return ""
		}
		return s.Engine.Version
	}
	r := m.reach.of(c.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := m.Now(); r.versionIsDue(now) && (r.at.IsZero() || now.Sub(r.at) >= reachFor) {
		m.ask(context.WithoutCancel(ctx), c, r)
	}
	return r.version
}

func (r *reached) versionIsDue(now time.Time) bool {
	return r.versionAt.IsZero() || now.Sub(r.versionAt) >= versionFor
}

// ask asks an address. An engine that was away may be another one by now. Under r.mu.
func (m *Manager) ask(ctx context.Context, c *Cluster, r *reached) {
	limited, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	r.err = m.Engine.Probe(limited, c)
	r.at = m.Now()
	if r.err != nil {
		m.Logger.Debug("cluster does not answer", zap.String("cluster", c.Name), zap.Error(r.err))
		r.version, r.versionAt = "", time.Time{}
		return
	}
	if !r.versionIsDue(r.at) {
		return
	}
	limited, cancel = context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	version, err := m.Engine.Version(limited, c)
	if err != nil {
		m.Logger.Debug("cluster does not say which Spark it is", zap.String("cluster", c.Name), zap.Error(err))
		r.version, r.versionAt = "", time.Time{}
		return
	}
	r.version, r.versionAt = shownVersion(version), m.Now()
}

// shownVersion is a version as it is shown to people: no engine writes more there, nor
// over their terminal.
func shownVersion(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text[:min(len(text), maxVersion)])
}
