package redisstore

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

const (
	// recordless is when a listed id without a record is a leftover: its record
	// has expired, or was never written.
	recordless = 60 * abandoned
	// listScans bounds how often one List call reads the index for a full page.
	listScans = 8
)

// Get implements sessions.Store: of a Cluster one node may be away, and the others answer.
// A record that can't be read is logged and left out.
func (s *Store) Get(ctx context.Context, ids ...sessions.ID) ([]sessions.Session, error) {
	records := make([]*redis.MapStringStringCmd, len(ids))
	_, away := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			if id.Valid() {
				records[i] = p.HGetAll(ctx, s.keys.session(id))
			}
		}
		return nil
	})
	found := make([]sessions.Session, 0, len(ids))
	for i, id := range ids {
		if records[i] == nil || records[i].Err() != nil || len(records[i].Val()) == 0 {
			continue
		}
		one, err := decode(id, records[i].Val())
		if err != nil {
			s.log.Error("unreadable session record", zap.Error(err))
			continue
		}
		found = append(found, one)
	}
	return found, unavailable(away)
}

// Bound implements sessions.Store.
func (s *Store) Bound(ctx context.Context, id sessions.ID) ([]sessions.SparkID, error) {
	members, err := s.rdb.SMembers(ctx, s.keys.bound(id)).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	bound := make([]sessions.SparkID, len(members))
	for i, m := range members {
		bound[i] = sessions.SparkID(m)
	}
	return bound, nil
}

// List implements sessions.Store.
func (s *Store) List(ctx context.Context, q sessions.Query) (sessions.Page, error) {
	if q.Name != "" {
		return s.byName(ctx, q)
	}
	index := s.keys.organisation(q.Org)
	if q.Owner != "" {
		index = s.keys.owned(q.Org, q.Owner)
	}
	page := sessions.Page{Next: q.After}
	for range listScans {
		ids, err := s.scan(ctx, index, page.Next, q.Limit)
		if err != nil {
			return sessions.Page{}, err
		}
		found, err := s.Get(ctx, ids...)
		if err != nil {
			return sessions.Page{}, err
		}
		s.dropLeftovers(ctx, index, ids, found)
		if fill(&page, q, ids, found) {
			break
		}
	}
	return page, nil
}

// fill adds to a page what the query selects of one scan, and says whether the
// page is done: full, or at the end of the index.
func fill(page *sessions.Page, q sessions.Query, ids []sessions.ID, found []sessions.Session) bool {
	for _, one := range found {
		if one.State == sessions.Closed && !q.Closed || !one.Labels.Has(q.Labels) {
			continue
		}
		page.Sessions = append(page.Sessions, one)
		if len(page.Sessions) == q.Limit && one.ID != ids[len(ids)-1] {
			page.Next = one.ID
			return true
		}
	}
	if len(ids) < q.Limit {
		page.Next = ""
		return true
	}
	page.Next = ids[len(ids)-1]
	return len(page.Sessions) == q.Limit
}

func (s *Store) scan(ctx context.Context, index string, after sessions.ID, limit int) ([]sessions.ID, error) {
	upTo := "+"
	if after != "" {
		upTo = "(" + string(after)
	}
	members, err := s.rdb.ZRevRangeByLex(ctx, index, &redis.ZRangeBy{Max: upTo, Min: "-", Count: int64(limit)}).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	ids := make([]sessions.ID, len(members))
	for i, m := range members {
		ids[i] = sessions.ID(m)
	}
	return ids, nil
}

func (s *Store) byName(ctx context.Context, q sessions.Query) (sessions.Page, error) {
	id, err := s.rdb.HGet(ctx, s.keys.names(q.Org, q.Owner), q.Name).Result()
	if errors.Is(err, redis.Nil) {
		return sessions.Page{}, nil
	}
	if err != nil {
		return sessions.Page{}, unavailable(err)
	}
	found, err := s.Get(ctx, sessions.ID(id))
	if err != nil || len(found) == 0 || found[0].State == sessions.Closed || !found[0].Labels.Has(q.Labels) {
		return sessions.Page{}, err
	}
	return sessions.Page{Sessions: found}, nil
}

// dropLeftovers takes ids whose record has expired out of an index. It is
// tidying: what fails is done by a later list.
func (s *Store) dropLeftovers(ctx context.Context, index string, ids []sessions.ID, found []sessions.Session) {
	if len(ids) == len(found) {
		return
	}
	there := make(map[sessions.ID]bool, len(found))
	for _, f := range found {
		there[f.ID] = true
	}
	var gone []any
	for _, id := range ids {
		if !there[id] && s.now().Sub(id.Time()) > recordless {
			gone = append(gone, string(id))
		}
	}
	if len(gone) > 0 {
		s.rdb.ZRem(ctx, index, gone...)
	}
}
