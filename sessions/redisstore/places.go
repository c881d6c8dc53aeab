package redisstore

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

// A place is a member of two sets, the owner's and the organisation's. It counts for
// as long as its lease is held, and then for as long as the engine that was put up
// with it is up: so a set that is full can be freed of all that a crash left there.
// Without a limit there are no places. More than the limit are up only where whoever
// launches was asleep for longer than its lease, and nobody took that meanwhile but
// the place.

// placed is one of the two sets.
type placed struct {
	key, limit string
	most       int
}

func (s *Store) placesOf(p sessions.Place) []placed {
	return []placed{
		{s.keys.ownerEngines(p.Org, p.Owner), sessions.LimitEnginesPerOwner, s.maxOwnedEngines},
		{s.keys.orgEngines(p.Org), sessions.LimitEnginesPerOrg, s.maxOrgEngines},
	}
}

// placeMember is the place in a set. No lease has a space in it.
func placeMember(key sessions.EngineKey, lease string) string { return lease + " " + string(key) }

// TakePlace implements sessions.EngineStore.
func (s *Store) TakePlace(ctx context.Context, key sessions.EngineKey, p sessions.Place) error {
	for _, set := range s.placesOf(p) {
		if set.most == 0 {
			continue
		}
		free, err := s.takePlaceIn(ctx, set, placeMember(key, p.Lease))
		if err == nil && free {
			continue
		}
		if err == nil {
			err = &sessions.LimitError{Limit: set.limit, Max: set.most}
		}
		s.placeEnds(ctx, key, []string{p.Org, p.Owner, p.Lease})
		return err
	}
	return nil
}

func (s *Store) takePlaceIn(ctx context.Context, set placed, member string) (bool, error) {
	for tidied := false; ; tidied = true {
		got, err := place.Run(ctx, s.rdb, []string{set.key}, member, set.most).Int()
		if err != nil {
			return false, unavailable(err)
		}
		if got == 1 || tidied {
			return got == 1, nil
		}
		if err := s.freeEnded(ctx, set.key); err != nil {
			return false, err
		}
	}
}

// freeEnded takes places out of a set that do not count any more.
func (s *Store) freeEnded(ctx context.Context, set string) error {
	members, err := s.rdb.SRandMemberN(ctx, set, tidySample).Result()
	if err != nil || len(members) == 0 {
		return unavailable(err)
	}
	leases, places := make([]*redis.StringCmd, len(members)), make([]*redis.StringCmd, len(members))
	// The lease is read before the engine: one that is put up in between counts.
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, m := range members {
			_, key, _ := strings.Cut(m, " ")
			leases[i] = p.Get(ctx, s.keys.engineLease(sessions.EngineKey(key)))
			places[i] = p.HGet(ctx, s.keys.engine(sessions.EngineKey(key)), "place")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return unavailable(err)
	}
	var ended []any
	for i, m := range members {
		// What Pipelined returns is the first error: of a cluster, one node's alone.
		for _, err := range []error{leases[i].Err(), places[i].Err()} {
			if err != nil && !errors.Is(err, redis.Nil) {
				return unavailable(err)
			}
		}
		lease, _, _ := strings.Cut(m, " ")
		if leases[i].Val() != lease && places[i].Val() != lease {
			ended = append(ended, m)
		}
	}
	if len(ended) == 0 {
		return nil
	}
	return unavailable(s.rdb.SRem(ctx, set, ended...).Err())
}

// FreePlace implements sessions.EngineStore.
func (s *Store) FreePlace(ctx context.Context, key sessions.EngineKey, p sessions.Place) error {
	_, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, set := range s.placesOf(p) {
			pipe.SRem(ctx, set.key, placeMember(key, p.Lease))
		}
		return nil
	})
	return unavailable(err)
}

// placeEnds is FreePlace for one that does not count any more anyway: what is left of
// it goes when somebody wants a place. had is organisation, owner and lease, as the
// scripts return them.
func (s *Store) placeEnds(ctx context.Context, key sessions.EngineKey, had []string) {
	if had[0] == "" {
		return
	}
	if err := s.FreePlace(ctx, key, sessions.Place{Org: had[0], Owner: had[1], Lease: had[2]}); err != nil {
		s.log.Debug("place of an engine is left behind", zap.String("engine", string(key)), zap.Error(err))
	}
}
