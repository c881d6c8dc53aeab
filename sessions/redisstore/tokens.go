package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

// tokensOutlive is how much longer than it lives a token stays known: longer than
// any verifier's leeway, so that a revoked one is forgotten only when it is worth
// nothing anyhow.
const tokensOutlive = 10 * time.Minute

// A token is kept as "<created> <expires> <revoked> <name>", the times in
// milliseconds since 1970, 0 = not revoked.

// addToken records a token, and forgets those that have expired.
//
//	KEYS[1] record     KEYS[2] the session's tokens    KEYS[3] their uses
//	ARGV[1] token      ARGV[2] what is kept of it
//	ARGV[3] tokens that expired before this time are forgotten, ms
//	ARGV[4] the time now, ms    ARGV[5] how many open tokens there may be
//
// Returns "done", "missing", "closed" or "full".
var addToken = redis.NewScript(`
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'missing' end
if state == 'closed' then return 'closed' end
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then return 'done' end -- the first answer was lost
local all = redis.call('HGETALL', KEYS[2])
local open = 0
for i = 1, #all, 2 do
  local expires, revoked = string.match(all[i + 1], '^%d+ (%d+) (%d+)')
  if tonumber(expires) < tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[2], all[i])
    redis.call('HDEL', KEYS[3], all[i])
  elseif revoked == '0' and tonumber(expires) > tonumber(ARGV[4]) then
    open = open + 1
  end
end
if open >= tonumber(ARGV[5]) then return 'full' end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 'done'
`)

// touchTokens writes down when tokens were used.
//
//	KEYS[1] record     KEYS[2] the session's tokens    KEYS[3] their uses
//	ARGV token, time of its use in ms, token, ...
//
// Returns 1, or 0 where the session is gone or closed.
var touchTokens = redis.NewScript(`
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'closed' then return 0 end
for i = 1, #ARGV, 2 do
  local before = redis.call('HGET', KEYS[3], ARGV[i])
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 and (not before or tonumber(before) < tonumber(ARGV[i + 1])) then
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  end
end
return 1
`)

// revokeTokens ends tokens and tells everybody.
//
//	KEYS[1] record     KEYS[2] the session's tokens
//	ARGV[1] session    ARGV[2] the time now, ms
//	ARGV[3] tokens that expired before this time are left out, ms    ARGV[4] channel
//	ARGV[5] and on: the tokens; none = all
//
// Returns {"done", owner, organisation, token, what is kept of it, ...} with those that it ended,
// {"missing"}, {"closed"} or {"unknown"}.
var revokeTokens = redis.NewScript(`
local have = redis.call('HMGET', KEYS[1], 'state', 'generation', 'owner', 'org')
if not have[1] then return {'missing'} end
if have[1] == 'closed' then return {'closed'} end
local wanted = {}
for i = 5, #ARGV do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then return {'unknown'} end
  wanted[ARGV[i]] = true
end
local all = redis.call('HGETALL', KEYS[2])
local done, list = {'done', have[3] or '', have[4] or ''}, {}
for i = 1, #all, 2 do
  local id, created, expires, revoked, name = all[i], string.match(all[i + 1], '^(%d+) (%d+) (%d+) (.*)$')
  if tonumber(expires) >= tonumber(ARGV[3]) then
    if revoked == '0' and (#ARGV < 5 or wanted[id]) then
      revoked = ARGV[2]
      local kept = created .. ' ' .. expires .. ' ' .. revoked .. ' ' .. name
      redis.call('HSET', KEYS[2], id, kept)
      done[#done + 1] = id
      done[#done + 1] = kept
    end
    if revoked ~= '0' then list[#list + 1] = id end
  end
end
if #done > 3 then
  redis.call('HSET', KEYS[1], 'revoked', table.concat(list, ' '))
  local revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
  redis.call('PUBLISH', ARGV[4], ARGV[1] .. ' ' .. have[1] .. ' ' .. have[2] .. ' ' .. revision)
end
return done
`)

func (s *Store) tokenKeys(id sessions.ID) []string {
	return []string{s.keys.session(id), s.keys.tokens(id), s.keys.uses(id)}
}

// AddToken implements sessions.TokenStore.
func (s *Store) AddToken(ctx context.Context, of sessions.Session, t sessions.Token, now time.Time) error {
	if !of.ID.Valid() {
		return sessions.ErrNotFound
	}
	if err := s.countToken(ctx, of, t, now); err != nil {
		return err
	}
	got, err := addToken.Run(ctx, s.rdb, s.tokenKeys(of.ID), t.ID, encodeToken(t),
		now.Add(-tokensOutlive).UnixMilli(), now.UnixMilli(), s.maxToken).Text()
	if err != nil {
		return unavailable(err) // it may be recorded, so it counts
	}
	err = tokenAnswer(got)
	if got == "full" {
		err = &sessions.LimitError{Limit: sessions.LimitTokensPerSession, Max: s.maxToken}
	}
	if err != nil {
		s.tokensEnd(ctx, of, []sessions.Token{t})
	}
	return err
}

// Tokens implements sessions.TokenStore.
func (s *Store) Tokens(ctx context.Context, id sessions.ID) ([]sessions.Token, error) {
	if !id.Valid() {
		return nil, sessions.ErrNotFound
	}
	var there *redis.IntCmd
	var kept, uses *redis.MapStringStringCmd
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		there, kept, uses = p.Exists(ctx, s.keys.session(id)), p.HGetAll(ctx, s.keys.tokens(id)), p.HGetAll(ctx, s.keys.uses(id))
		return nil
	})
	if err != nil {
		return nil, unavailable(err)
	}
	if there.Val() == 0 {
		return nil, sessions.ErrNotFound
	}
	list := make([]string, 0, 2*len(kept.Val()))
	for id, value := range kept.Val() {
		list = append(list, id, value)
	}
	tokens, err := decodeTokens(list)
	for i := range tokens {
		if ms, err := strconv.ParseInt(uses.Val()[tokens[i].ID], 10, 64); err == nil {
			tokens[i].LastUsedAt = time.UnixMilli(ms).UTC()
		}
	}
	return tokens, err
}

// TouchTokens implements sessions.TokenStore. Uses of one session that follow one
// another are written at once.
func (s *Store) TouchTokens(ctx context.Context, uses []sessions.TokenUse) error {
	for len(uses) > 0 {
		id := uses[0].Session
		var args []any
		for len(uses) > 0 && uses[0].Session == id && len(args) < maxTouch {
			args = append(args, uses[0].Token, uses[0].At.UnixMilli())
			uses = uses[1:]
		}
		if !id.Valid() {
			continue
		}
		if err := touchTokens.Run(ctx, s.rdb, s.tokenKeys(id), args...).Err(); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// maxTouch is how many arguments one script is given at most.
const maxTouch = 1000

// RevokeTokens implements sessions.TokenStore.
func (s *Store) RevokeTokens(ctx context.Context, id sessions.ID, tokens []string, now time.Time) ([]sessions.Token, error) {
	if !id.Valid() {
		return nil, sessions.ErrNotFound
	}
	args := []any{string(id), now.UnixMilli(), now.Add(-tokensOutlive).UnixMilli(), s.keys.changes()}
	for _, t := range tokens {
		args = append(args, t)
	}
	got, err := revokeTokens.Run(ctx, s.rdb, s.tokenKeys(id), args...).StringSlice()
	if err != nil {
		return nil, unavailable(err)
	}
	if len(got) == 0 {
		return nil, tokenAnswer("")
	}
	if err := tokenAnswer(got[0]); err != nil {
		return nil, err
	}
	if len(got) < 3 {
		return nil, fmt.Errorf("token script: %d answers", len(got))
	}
	ended, err := decodeTokens(got[3:])
	if len(ended) > 0 {
		s.tokensEnd(ctx, sessions.Session{ID: id, Owner: got[1], Org: got[2]}, ended)
	}
	return ended, err
}

// tokenAnswer reads the first word of a script.
func tokenAnswer(word string) error {
	switch word {
	case "done":
		return nil
	case "missing":
		return sessions.ErrNotFound
	case "closed":
		return sessions.ErrClosed
	case "full":
		return sessions.ErrTooManyTokens
	case "unknown":
		return sessions.ErrUnknownToken
	}
	return fmt.Errorf("token script: unknown answer %q", word)
}

func encodeToken(t sessions.Token) string {
	return fmt.Sprintf("%d %d 0 %s", t.CreatedAt.UnixMilli(), t.ExpiresAt.UnixMilli(), t.Name)
}

// decodeTokens reads token, kept, token, kept ... and puts the newest first.
func decodeTokens(list []string) ([]sessions.Token, error) {
	tokens := make([]sessions.Token, 0, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		t, err := decodeToken(list[i], list[i+1])
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
	}
	slices.SortFunc(tokens, func(a, b sessions.Token) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return tokens, nil
}

func decodeToken(id, kept string) (sessions.Token, error) {
	f := strings.SplitN(kept, " ", 4)
	if len(f) != 4 {
		return sessions.Token{}, fmt.Errorf("record of token %s: %d fields", id, len(f))
	}
	t := sessions.Token{ID: id, Name: f[3]}
	for i, at := range []*time.Time{&t.CreatedAt, &t.ExpiresAt, &t.RevokedAt} {
		ms, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return t, fmt.Errorf("record of token %s: %w", id, err)
		}
		if ms != 0 {
			*at = time.UnixMilli(ms).UTC()
		}
	}
	return t, nil
}
