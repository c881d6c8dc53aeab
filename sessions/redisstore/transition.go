package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

// stepName is how long the name of a step is: 50 bits, told apart from those of a minute.
const stepName = 10

// Transition implements sessions.Store. After a close it frees the name and has
// the bindings expire; where that fails the session is closed all the same, the
// error says so, and a second close does the rest.
func (s *Store) Transition(ctx context.Context, id sessions.ID, t sessions.Transition) (sessions.Session, error) {
	if !id.Valid() {
		return sessions.Session{}, sessions.ErrNotFound
	}
	if !t.Allowed() {
		return sessions.Session{}, fmt.Errorf("%w: %s may not become %s", sessions.ErrConflict, t.From, t.To)
	}
	engine, err := encodeEngine(t.Engine)
	if err != nil {
		return sessions.Session{}, err
	}
	keys := []string{
		s.keys.session(id), s.keys.bound(id), s.keys.tokens(id), s.keys.operations(id), s.keys.uses(id),
		s.keys.journal(id), s.keys.parts(id), s.keys.carried(id),
	}
	got, err := transition.Run(ctx, s.rdb, keys,
		string(id), string(t.From), t.Generation, string(t.To), t.Reason, t.At.UnixMilli(),
		s.kept(t).Milliseconds(), s.keys.changes(), engine, t.Unused.Milliseconds(), t.Skew.Milliseconds(), operationsKept.Milliseconds(), rand.Text()[:stepName]).Slice()
	if err != nil {
		return sessions.Session{}, unavailable(err)
	}
	now, err := outcome(id, got)
	if err != nil || t.To != sessions.Closed {
		return now, err
	}
	s.awaitCopy(ctx, now, s.kept(t))
	if err := s.afterClose(ctx, now); err != nil {
		return now, fmt.Errorf("session %s is closed, but not tidied up: %w", id, err)
	}
	return now, nil
}

// kept is how long the record of a session stays that t closes.
func (s *Store) kept(t sessions.Transition) time.Duration {
	if t.Keep > 0 && t.Keep < s.keep {
		return t.Keep
	}
	return s.keep
}

// outcome reads what the transition script returned.
func outcome(id sessions.ID, got []any) (sessions.Session, error) {
	if len(got) == 0 {
		return sessions.Session{}, errors.New("transition script: no answer")
	}
	switch got[0] {
	case "missing":
		return sessions.Session{}, sessions.ErrNotFound
	case "closed":
		return sessions.Session{}, sessions.ErrClosed
	case "conflict":
		return sessions.Session{}, sessions.ErrConflict
	case "over":
		return sessions.Session{}, fmt.Errorf("%w: the answer to a step of session %s was lost, and the session is further by now", sessions.ErrUnavailable, id)
	}
	list, _ := got[len(got)-1].([]any)
	fields := make([]string, len(list))
	for i, v := range list {
		fields[i], _ = v.(string)
	}
	return decode(id, pairs(fields))
}

// awaitCopy waits until a replica of Redis has the close, so that a failover does not
// open the session again. Where none has it in time the session is closed all the
// same, and the log says what a failover could do. Nodes of a Cluster that have no
// replicas fail over to nobody.
func (s *Store) awaitCopy(ctx context.Context, closed sessions.Session, kept time.Duration) {
	if s.copied == 0 {
		return
	}
	n, alone, err := s.copies(ctx, s.keys.session(closed.ID), kept)
	if _, clustered := s.rdb.(*redis.ClusterClient); err == nil && (n > 0 || alone && clustered) {
		return
	}
	s.log.Warn("no replica of redis has a close yet: a failover right now would open the session again",
		zap.String("session", string(closed.ID)), zap.Error(err))
}

// copies is how many replicas have what was written to the node of a key; alone says
// that it has none. WAIT is about what its own connection wrote, hence the expiry,
// which the script has set.
func (s *Store) copies(ctx context.Context, key string, kept time.Duration) (n int64, alone bool, err error) {
	var node interface {
		Do(ctx context.Context, args ...any) *redis.Cmd
		Pipeline() redis.Pipeliner
	} = s.rdb
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		if node, err = c.MasterForKey(ctx, key); err != nil {
			return 0, false, err
		}
	}
	role, err := node.Do(ctx, "ROLE").Slice() // "master", its offset, its replicas
	if err != nil {
		return 0, false, err
	}
	if len(role) == 3 {
		if replicas, ok := role[2].([]any); ok && len(replicas) == 0 {
			return 0, true, nil
		}
	}
	p := node.Pipeline()
	p.PExpire(ctx, key, kept)
	copies := p.Do(ctx, "WAIT", 1, s.copied.Milliseconds())
	if _, err := p.Exec(ctx); err != nil {
		return 0, false, err
	}
	n, err = copies.Int64()
	return n, false, err
}

// afterClose does what lies under other hash tags than the session's. The deadline of its
// age goes last: where this is cut short, the close that comes of it does the rest.
func (s *Store) afterClose(ctx context.Context, closed sessions.Session) error {
	names := s.keys.names(closed.Org, closed.Owner)
	if err := release.Run(ctx, s.rdb, []string{names}, closed.Name, string(closed.ID)).Err(); err != nil {
		return unavailable(err)
	}
	if err := s.rdb.SRem(ctx, s.keys.openInOrg(closed.Org), string(closed.ID)).Err(); err != nil {
		return unavailable(err)
	}
	if err := s.dropTokens(ctx, closed); err != nil {
		return err
	}
	bound, err := s.Bound(ctx, closed.ID)
	if err != nil {
		return err
	}
	for _, spark := range bound {
		if err := s.unclaim(ctx, closed.ID, spark, s.keep+bindingsOutlive); err != nil {
			return err
		}
	}
	return s.DropDue(ctx, closed.ID)
}
