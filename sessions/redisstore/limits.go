package redisstore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

// tidySample is how many names or places are looked at for leftovers where a
// limit is reached: what a close or a create that was cut short has left there.
const tidySample = 256

func (s *Store) reserveKeys(n sessions.Session, requestID string) []string {
	return []string{s.keys.names(n.Org, n.Owner), s.keys.owned(n.Org, n.Owner), s.keys.request(n.Org, n.Owner, requestID)}
}

// settle does what a new session that has its name needs before its record: a
// place in its organisation, the index, the deadline. Where there is no place,
// the name is given back.
func (s *Store) settle(ctx context.Context, n sessions.Session, requestID string) error {
	placed, err := s.takePlace(ctx, n)
	if err != nil {
		return err
	}
	if !placed {
		if err := unreserve.Run(ctx, s.rdb, s.reserveKeys(n, requestID), n.Name, string(n.ID)).Err(); err != nil {
			return unavailable(err)
		}
		return &sessions.LimitError{Limit: sessions.LimitPerOrg, Max: s.maxInOrg}
	}
	if err := s.rdb.ZAdd(ctx, s.keys.organisation(n.Org), redis.Z{Member: string(n.ID)}).Err(); err != nil {
		return unavailable(err)
	}
	if n.MaxAge == 0 {
		return nil
	}
	due := redis.Z{Member: string(n.ID), Score: float64(n.ExpiresAt().UnixMilli())}
	return unavailable(s.rdb.ZAdd(ctx, s.keys.due(), due).Err())
}

func (s *Store) takePlace(ctx context.Context, n sessions.Session) (bool, error) {
	return orTidied(func() (bool, error) {
		return took(place.Run(ctx, s.rdb, []string{s.keys.openInOrg(n.Org)}, string(n.ID), s.maxInOrg))
	}, func() error { return s.freePlaces(ctx, n.Org) })
}

// placed is a set that holds what counts for one limit; 0 = there is none.
type placed struct {
	key, limit string
	most       int
}

// takeIn takes a place in each of the sets. Where one is full, also after it was tidied,
// it returns a *sessions.LimitError; the places in the sets before it are taken then.
func takeIn(sets []placed, take func(placed) (bool, error), tidy func(set string) error) error {
	for _, set := range sets {
		if set.most == 0 {
			continue
		}
		free, err := orTidied(func() (bool, error) { return take(set) }, func() error { return tidy(set.key) })
		if err != nil {
			return err
		}
		if !free {
			return &sessions.LimitError{Limit: set.limit, Max: set.most}
		}
	}
	return nil
}

// orTidied tries, and where there is no room once more, when leftovers are cleared away.
func orTidied(try func() (bool, error), tidy func() error) (bool, error) {
	if done, err := try(); done || err != nil {
		return done, err
	}
	if err := tidy(); err != nil {
		return false, err
	}
	return try()
}

// took is the answer of a script that returns 1 for yes.
func took(answer *redis.Cmd) (bool, error) {
	n, err := answer.Int()
	return n == 1, unavailable(err)
}

// without reads two values for each member, the first before the second, "" where there
// is none, and returns the members that do not count by them.
func (s *Store) without(ctx context.Context, members []string, read func(p redis.Pipeliner, member string) (a, b *redis.StringCmd),
	counts func(member, a, b string) bool) (ended []any, err error) {
	values := make([][2]*redis.StringCmd, len(members))
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, m := range members {
			values[i][0], values[i][1] = read(p, m)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable(err)
	}
	for i, m := range members {
		// What Pipelined returns is the first error: of a cluster, one node's alone.
		for _, v := range values[i] {
			if err := v.Err(); err != nil && !errors.Is(err, redis.Nil) {
				return nil, unavailable(err)
			}
		}
		if !counts(m, values[i][0].Val(), values[i][1].Val()) {
			ended = append(ended, m)
		}
	}
	return ended, nil
}

// freePlaces takes sessions out of an organisation's open ones that are not open.
func (s *Store) freePlaces(ctx context.Context, org string) error {
	members, err := s.rdb.SRandMemberN(ctx, s.keys.openInOrg(org), tidySample).Result()
	if err != nil {
		return unavailable(err)
	}
	left, err := s.leftovers(ctx, members)
	if err != nil || len(left) == 0 {
		return err
	}
	return unavailable(s.rdb.SRem(ctx, s.keys.openInOrg(org), left...).Err())
}

// freeNames takes names from sessions that are not open.
func (s *Store) freeNames(ctx context.Context, n sessions.Session) error {
	key := s.keys.names(n.Org, n.Owner)
	sample, err := s.rdb.HRandField(ctx, key, tidySample).Result()
	if err != nil || len(sample) == 0 {
		return unavailable(err)
	}
	held, err := s.rdb.HMGet(ctx, key, sample...).Result()
	if err != nil {
		return unavailable(err)
	}
	holders, names := make([]string, 0, len(held)), make(map[any]string, len(held))
	for i, holder := range held {
		if id, ok := holder.(string); ok { // nil: it went meanwhile
			holders, names[id] = append(holders, id), sample[i]
		}
	}
	left, err := s.leftovers(ctx, holders)
	if err != nil {
		return err
	}
	for _, holder := range left {
		if err := release.Run(ctx, s.rdb, []string{key}, names[holder], holder).Err(); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// leftovers returns those ids that belong to no open session: closed ones, and
// those that never got a record.
func (s *Store) leftovers(ctx context.Context, members []string) (left []any, err error) {
	ids := make([]sessions.ID, len(members))
	for i, m := range members {
		ids[i] = sessions.ID(m)
	}
	found, err := s.Get(ctx, ids...)
	if err != nil {
		return nil, err
	}
	open := make(map[sessions.ID]bool, len(found))
	for _, one := range found {
		open[one.ID] = one.State != sessions.Closed
	}
	for _, id := range ids {
		if is, recorded := open[id]; !is && (recorded || s.now().Sub(id.Time()) > abandoned) {
			left = append(left, string(id))
		}
	}
	return left, nil
}

// SetDue implements sessions.Deadlines.
func (s *Store) SetDue(ctx context.Context, id sessions.ID, at time.Time) error {
	return unavailable(s.rdb.ZAdd(ctx, s.keys.unused(), redis.Z{Member: string(id), Score: float64(at.UnixMilli())}).Err())
}

// PutOff implements sessions.Deadlines.
func (s *Store) PutOff(ctx context.Context, id sessions.ID, at time.Time) error {
	return unavailable(s.rdb.ZAddXX(ctx, s.keys.unused(), redis.Z{Member: string(id), Score: float64(at.UnixMilli())}).Err())
}

// TakeDue implements sessions.Deadlines.
func (s *Store) TakeDue(ctx context.Context, now, again time.Time, limit int) ([]sessions.ID, error) {
	var ids []sessions.ID
	for _, key := range []string{s.keys.due(), s.keys.unused()} {
		got, err := takeDue.Run(ctx, s.rdb, []string{key}, now.UnixMilli(), again.UnixMilli(), limit-len(ids)).StringSlice()
		if err != nil {
			return nil, unavailable(err)
		}
		for _, id := range got {
			if id := sessions.ID(id); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// DropDue implements sessions.Deadlines.
func (s *Store) DropDue(ctx context.Context, id sessions.ID) error {
	if err := s.rdb.ZRem(ctx, s.keys.unused(), string(id)).Err(); err != nil {
		return unavailable(err)
	}
	return unavailable(s.rdb.ZRem(ctx, s.keys.due(), string(id)).Err())
}
