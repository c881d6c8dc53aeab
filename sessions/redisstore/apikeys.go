package redisstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

const (
	// keysOutlive is how long after its end an API key stays known, for lists.
	keysOutlive = 30 * 24 * time.Hour
	// defaultMaxKeys is how many open keys one organisation may have.
	defaultMaxKeys = 1000
)

// The fields of an API key's record, besides those of record.go.
const (
	fieldSubject = "subject"
	fieldAdmin   = "admin" // "1", or absent
	fieldCreator = "by"
	fieldExpires = "expires"
	fieldUsed    = "used"
	fieldHash    = "hash" // SHA-256, hexadecimal
)

// setKeyField writes a field of an API key that is there.
//
//	KEYS[1] record    ARGV[1] field    ARGV[2] value    ARGV[3] "first" = once written it stays
//
// Returns the record that is there now, as field, value, ..., or nothing.
var setKeyField = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
if ARGV[3] == 'first' then redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return redis.call('HGETALL', KEYS[1])
`)

// AddKey implements sessions.KeyStore. The bound may be passed by as many keys as
// are made at the very same time.
func (s *Store) AddKey(ctx context.Context, k sessions.Key) error {
	all, err := s.Keys(ctx, k.Org)
	if err != nil {
		return err
	}
	open := 0
	for _, other := range all {
		if other.Open(k.CreatedAt) {
			open++
		}
	}
	if open >= s.maxKeys {
		return sessions.ErrTooManyKeys
	}
	// The index first: a record that no list shows could not be revoked by sight.
	index := redis.Z{Score: float64(k.CreatedAt.UnixMilli()), Member: k.ID}
	if err := s.rdb.ZAdd(ctx, s.keys.apiKeys(k.Org), index).Err(); err != nil {
		return unavailable(err)
	}
	_, err = s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, s.keys.apiKey(k.ID), encodeKey(k)...)
		p.PExpireAt(ctx, s.keys.apiKey(k.ID), k.ExpiresAt.Add(keysOutlive))
		return nil
	})
	return unavailable(err)
}

// Key implements sessions.KeyStore.
func (s *Store) Key(ctx context.Context, id string) (sessions.Key, error) {
	fields, err := s.rdb.HGetAll(ctx, s.keys.apiKey(id)).Result()
	if err != nil {
		return sessions.Key{}, unavailable(err)
	}
	return decodeKey(id, fields)
}

// Keys implements sessions.KeyStore.
func (s *Store) Keys(ctx context.Context, org string) ([]sessions.Key, error) {
	index, err := s.rdb.ZRangeWithScores(ctx, s.keys.apiKeys(org), 0, -1).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	records := make([]*redis.MapStringStringCmd, len(index))
	if _, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, z := range index {
			records[i] = p.HGetAll(ctx, s.keys.apiKey(memberOf(z)))
		}
		return nil
	}); err != nil {
		return nil, unavailable(err)
	}
	var list []sessions.Key
	var gone []any
	for i, z := range index {
		k, err := decodeKey(memberOf(z), records[i].Val())
		switch {
		case err == nil:
			list = append(list, k)
		case !errors.Is(err, sessions.ErrUnknownKey):
			return nil, err
		case s.now().Sub(time.UnixMilli(int64(z.Score))) > abandoned:
			gone = append(gone, z.Member)
		}
	}
	if len(gone) > 0 {
		if err := s.rdb.ZRem(ctx, s.keys.apiKeys(org), gone...).Err(); err != nil {
			return nil, unavailable(err)
		}
	}
	slices.SortFunc(list, func(a, b sessions.Key) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// memberOf is the member of an index, which go-redis reads as text.
func memberOf(z redis.Z) string { return fmt.Sprint(z.Member) }

// RevokeKey implements sessions.KeyStore.
func (s *Store) RevokeKey(ctx context.Context, id string, now time.Time) (sessions.Key, error) {
	return s.setKeyField(ctx, id, fieldRevoked, now, "first")
}

// UseKey implements sessions.KeyStore.
func (s *Store) UseKey(ctx context.Context, id string, now time.Time) error {
	_, err := s.setKeyField(ctx, id, fieldUsed, now, "")
	if errors.Is(err, sessions.ErrUnknownKey) {
		return nil
	}
	return err
}

func (s *Store) setKeyField(ctx context.Context, id, field string, now time.Time, how string) (sessions.Key, error) {
	got, err := setKeyField.Run(ctx, s.rdb, []string{s.keys.apiKey(id)}, field, now.UnixMilli(), how).StringSlice()
	if err != nil {
		return sessions.Key{}, unavailable(err)
	}
	return decodeKey(id, pairs(got))
}

func encodeKey(k sessions.Key) []any {
	fields := []any{
		fieldVersion, recordVersion,
		fieldName, k.Name,
		fieldSubject, k.Subject,
		fieldOrg, k.Org,
		fieldCreator, k.CreatedBy,
		fieldCreated, k.CreatedAt.UnixMilli(),
		fieldExpires, k.ExpiresAt.UnixMilli(),
		fieldHash, hex.EncodeToString(k.Hash[:]),
	}
	if k.Admin {
		fields = append(fields, fieldAdmin, "1")
	}
	return fields
}

func decodeKey(id string, f map[string]string) (sessions.Key, error) {
	if len(f) == 0 {
		return sessions.Key{}, sessions.ErrUnknownKey
	}
	d := decoder{fields: f}
	k := sessions.Key{
		ID: id, Name: f[fieldName], Subject: f[fieldSubject], Org: f[fieldOrg], Admin: f[fieldAdmin] == "1", CreatedBy: f[fieldCreator],
		CreatedAt: d.time(fieldCreated), ExpiresAt: d.time(fieldExpires), UsedAt: d.time(fieldUsed), RevokedAt: d.time(fieldRevoked),
	}
	if v := d.number(fieldVersion); d.err == nil && v != recordVersion {
		return sessions.Key{}, fmt.Errorf("record of API key %s has version %d, this Sconce knows %d: upgrade it", id, v, recordVersion)
	}
	n, err := hex.Decode(k.Hash[:], []byte(f[fieldHash][:min(len(f[fieldHash]), 2*len(k.Hash))]))
	if d.err == nil && (err != nil || n != len(k.Hash)) {
		d.err = errors.New("its hash is damaged")
	}
	if d.err != nil {
		return sessions.Key{}, fmt.Errorf("record of API key %s: %w", id, d.err)
	}
	return k, nil
}
