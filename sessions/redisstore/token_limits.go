package redisstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

// A token that is good is a member of two sets, the owner's and the organisation's,
// from before it is recorded until it expires, is revoked or its session is closed.
// The sets are ordered by expiry, so that what expired goes by itself; what a crash
// left there is found where a limit is reached. Without a limit there are no sets.
// More tokens than the limit are good only where whoever issued one was asleep for a
// minute between its count and its record, or where a Sconce that does not count
// tokens issued them.

// countedIn returns the two sets.
func (s *Store) countedIn(of sessions.Session) []placed {
	return []placed{
		{s.keys.ownerTokens(of.Org, of.Owner), sessions.LimitTokensPerOwner, s.maxOwnedTokens},
		{s.keys.orgTokens(of.Org), sessions.LimitTokensPerOrg, s.maxOrgTokens},
	}
}

// countedToken is the token in a set: "<created, ms> <session> <token>".
func countedToken(id sessions.ID, t sessions.Token) string {
	return fmt.Sprintf("%d %s %s", t.CreatedAt.UnixMilli(), id, t.ID)
}

// countToken puts a token into a set that has room for it.
//
//	KEYS[1] the set    ARGV[1] the token    ARGV[2] when it expires, ms    ARGV[3] the time now, ms
//	ARGV[4] how many the set may hold    ARGV[5] how much longer than its last token it is kept, ms
//
// Returns 1 if the token is in the set, else 0.
var countToken = redis.NewScript(`
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
end
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', tonumber(last[2]) - tonumber(ARGV[3]) + tonumber(ARGV[5])))
end
return 1
`)

// countToken counts a token that is to be recorded. *sessions.LimitError.
func (s *Store) countToken(ctx context.Context, of sessions.Session, t sessions.Token, now time.Time) error {
	err := takeIn(s.countedIn(of), func(set placed) (bool, error) {
		return took(countToken.Run(ctx, s.rdb, []string{set.key}, countedToken(of.ID, t),
			t.ExpiresAt.UnixMilli(), now.UnixMilli(), set.most, tokensOutlive.Milliseconds()))
	}, func(set string) error { return s.freeTokens(ctx, set) })
	if err != nil {
		s.tokensEnd(ctx, of, []sessions.Token{t})
	}
	return err
}

// tokensEnd takes tokens out of the sets that are good no more. What is left there
// goes where a limit is reached, or with its time.
func (s *Store) tokensEnd(ctx context.Context, of sessions.Session, ended []sessions.Token) {
	if err := s.uncount(ctx, of, ended); err != nil {
		s.log.Debug("tokens that have ended count for longer", zap.String("session", string(of.ID)), zap.Error(err))
	}
}

func (s *Store) uncount(ctx context.Context, of sessions.Session, ended []sessions.Token) error {
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for some := range slices.Chunk(ended, maxTouch) {
			members := make([]any, len(some))
			for i, t := range some {
				members[i] = countedToken(of.ID, t)
			}
			for _, set := range s.countedIn(of) {
				p.ZRem(ctx, set.key, members...)
			}
		}
		return nil
	})
	return unavailable(err)
}

// dropTokens takes all tokens of a session that is closed out of the sets.
func (s *Store) dropTokens(ctx context.Context, closed sessions.Session) error {
	all, err := s.Tokens(ctx, closed.ID)
	if err != nil || len(all) == 0 {
		return err
	}
	return s.uncount(ctx, closed, all)
}

// freeTokens takes tokens out of a set that do not count: those that are revoked, those
// of closed sessions, and those that never were recorded. It looks at some of them.
func (s *Store) freeTokens(ctx context.Context, set string) error {
	n, err := s.rdb.ZCard(ctx, set).Result()
	if err != nil {
		return unavailable(err)
	}
	from := rand.Int64N(max(1, n-tidySample+1)) //nolint:gosec // any of them will do
	members, err := s.rdb.ZRange(ctx, set, from, from+tidySample-1).Result()
	if err != nil || len(members) == 0 {
		return unavailable(err)
	}
	ended, err := s.without(ctx, members, func(p redis.Pipeliner, m string) (state, kept *redis.StringCmd) {
		_, id, token := splitCounted(m)
		return p.HGet(ctx, s.keys.session(id), fieldState), p.HGet(ctx, s.keys.tokens(id), token)
	}, s.counts)
	if err != nil || len(ended) == 0 {
		return err
	}
	return unavailable(s.rdb.ZRem(ctx, set, ended...).Err())
}

// counts says whether a member counts, of whose session that is the state and that is
// kept of the token; "" = neither is recorded.
func (s *Store) counts(member, state, kept string) bool {
	if state == string(sessions.Closed) {
		return false
	}
	created, _, token := splitCounted(member)
	if kept == "" || state == "" {
		return s.now().Sub(created) <= abandoned // it may be under way
	}
	t, err := decodeToken(token, kept)
	return err != nil || t.RevokedAt.IsZero()
}

// splitCounted undoes countedToken.
func splitCounted(member string) (created time.Time, id sessions.ID, token string) {
	at, rest, _ := strings.Cut(member, " ")
	session, token, _ := strings.Cut(rest, " ")
	ms, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return time.Time{}, sessions.ID(session), token
	}
	return time.UnixMilli(ms), sessions.ID(session), token
}
