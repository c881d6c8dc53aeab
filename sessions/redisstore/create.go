package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// abandoned is when a name that belongs to no record is free again: the create
// that took it has long given up.
const abandoned = time.Minute

// Create implements sessions.Store. A session without a name is named by its id.
func (s *Store) Create(ctx context.Context, n sessions.Session, requestID string) (sessions.Session, error) {
	id, again, err := s.reserve(ctx, n, requestID)
	if err != nil {
		return sessions.Session{}, err
	}
	if again {
		if found, err := s.Get(ctx, id); err != nil || len(found) == 1 {
			return first(found), err
		}
		n.ID = id // the first try was cut short before its record: finish it
		if _, _, err := s.reserve(ctx, n, ""); err != nil {
			return sessions.Session{}, err
		}
	}
	n.Name = nameOf(n)
	if err := s.settle(ctx, n, requestID); err != nil {
		return sessions.Session{}, err
	}
	fields, err := record.Run(ctx, s.rdb, []string{s.keys.session(n.ID)}, encode(n)...).StringSlice()
	if err != nil {
		return sessions.Session{}, unavailable(err)
	}
	return decode(n.ID, pairs(fields))
}

// Unrequest implements sessions.Store.
func (s *Store) Unrequest(ctx context.Context, made sessions.Session, requestID string) error {
	key := s.keys.request(made.Org, made.Owner, requestID)
	return unavailable(unlease.Run(ctx, s.rdb, []string{key}, string(made.ID)).Err())
}

// reserve takes the name; again says that the request is known, by that id.
func (s *Store) reserve(ctx context.Context, n sessions.Session, requestID string) (id sessions.ID, again bool, err error) {
	takeFrom, tidied := "", false
	for range 3 {
		answer, holder, err := s.tryReserve(ctx, n, requestID, takeFrom)
		switch {
		case err != nil:
			return "", false, err
		case answer == "new":
			return n.ID, false, nil
		case answer == "again":
			return holder, true, nil
		case answer == "full":
			if tidied {
				return "", false, &sessions.LimitError{Limit: sessions.LimitPerOwner, Max: s.maxOwned}
			}
			tidied = true
			if err := s.freeNames(ctx, n); err != nil {
				return "", false, err
			}
			continue
		}
		gone, err := s.gone(ctx, holder)
		if err != nil {
			return "", false, err
		}
		if !gone {
			return "", false, sessions.ErrNameTaken
		}
		takeFrom = string(holder)
	}
	return "", false, sessions.ErrNameTaken
}

func (s *Store) tryReserve(ctx context.Context, n sessions.Session, requestID, takeFrom string) (answer string, holder sessions.ID, err error) {
	keep := time.Duration(0)
	if requestID != "" {
		keep = requestsKept
	}
	got, err := reserve.Run(ctx, s.rdb, s.reserveKeys(n, requestID), nameOf(n), string(n.ID), keep.Milliseconds(), takeFrom, s.maxOwned).StringSlice()
	if err != nil {
		return "", "", unavailable(err)
	}
	if len(got) != 2 {
		return "", "", fmt.Errorf("reserve script: %d answers", len(got))
	}
	return got[0], sessions.ID(got[1]), nil
}

// gone says that the holder of a name has no right to it: it is closed, and the
// close was cut short, or it was never recorded.
func (s *Store) gone(ctx context.Context, holder sessions.ID) (bool, error) {
	found, err := s.Get(ctx, holder)
	if err != nil {
		return false, err
	}
	if len(found) == 0 {
		return s.now().Sub(holder.Time()) > abandoned, nil
	}
	return found[0].State == sessions.Closed, nil
}

func nameOf(n sessions.Session) string {
	if n.Name == "" {
		return string(n.ID)
	}
	return n.Name
}

func first(found []sessions.Session) sessions.Session {
	if len(found) == 0 {
		return sessions.Session{}
	}
	return found[0]
}

// pairs makes a map of field, value, field, value.
func pairs(list []string) map[string]string {
	m := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m
}
