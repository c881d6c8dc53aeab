package redisstore

import (
	"context"
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
	err := takeIn(s.placesOf(p), func(set placed) (bool, error) {
		return took(place.Run(ctx, s.rdb, []string{set.key}, placeMember(key, p.Lease), set.most))
	}, func(set string) error { return s.freeEnded(ctx, set) })
	if err != nil {
		s.placeEnds(ctx, key, []string{p.Org, p.Owner, p.Lease})
	}
	return err
}

// freeEnded takes places out of a set that do not count any more.
func (s *Store) freeEnded(ctx context.Context, set string) error {
	members, err := s.rdb.SRandMemberN(ctx, set, tidySample).Result()
	if err != nil || len(members) == 0 {
		return unavailable(err)
	}
	// The lease is read before the engine: one that is put up in between counts.
	ended, err := s.without(ctx, members, func(p redis.Pipeliner, m string) (lease, placed *redis.StringCmd) {
		_, key, _ := strings.Cut(m, " ")
		return p.Get(ctx, s.keys.engineLease(sessions.EngineKey(key))), p.HGet(ctx, s.keys.engine(sessions.EngineKey(key)), "place")
	}, func(m, lease, placed string) bool {
		had, _, _ := strings.Cut(m, " ")
		return lease == had || placed == had
	})
	if err != nil || len(ended) == 0 {
		return err
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
