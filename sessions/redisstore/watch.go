package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

const (
	// watchPing is how long a subscription may be silent before it is asked.
	watchPing = 500 * time.Millisecond
	// watchSilence is after how many silent periods it counts as lost.
	watchSilence = 3
)

// Watch implements sessions.Directory. It does not trust a silent connection: a
// server that hangs, or a network that drops, is noticed within 2 s.
func (s *Store) Watch(ctx context.Context, ready func(), changed func(sessions.Change)) error {
	sub := s.rdb.Subscribe(ctx, s.keys.changes())
	stop := context.AfterFunc(ctx, func() { sub.Close() }) // ends a Receive that waits
	defer func() {
		if stop() {
			sub.Close()
		}
	}()
	silent := 0
	for ctx.Err() == nil {
		message, err := sub.ReceiveTimeout(ctx, watchPing)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			silent = 0
			s.deliver(message, ready, changed)
		case !timedOut(err) || silent == watchSilence:
			return fmt.Errorf("watch sessions: %w", unavailable(err))
		default:
			silent++
			if err := sub.Ping(ctx); err != nil {
				return fmt.Errorf("watch sessions: %w", unavailable(err))
			}
		}
	}
	return ctx.Err()
}

func (s *Store) deliver(message any, ready func(), changed func(sessions.Change)) {
	switch m := message.(type) {
	case *redis.Subscription:
		ready()
	case *redis.Message:
		c, err := parseChange(m.Payload)
		if err != nil {
			s.log.Error("unreadable message on the channel of changes", zap.Error(err))
			return
		}
		changed(c)
	}
}

// parseChange reads what the transition script publishes.
func parseChange(payload string) (sessions.Change, error) {
	f := strings.Split(payload, " ")
	if len(f) != 4 {
		return sessions.Change{}, fmt.Errorf("%d fields", len(f))
	}
	c := sessions.Change{ID: sessions.ID(f[0]), State: sessions.State(f[1])}
	if !c.ID.Valid() || !c.State.Valid() {
		return c, errors.New("no session id or state")
	}
	var err1, err2 error
	c.Generation, err1 = strconv.ParseUint(f[2], 10, 64)
	c.Revision, err2 = strconv.ParseUint(f[3], 10, 64)
	return c, errors.Join(err1, err2)
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
