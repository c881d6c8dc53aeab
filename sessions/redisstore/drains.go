package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// drain is how a sessions.Drain is written.
type drain struct {
	At     int64  `json:"at"` // ms
	Reason string `json:"reason,omitempty"`
}

// Drain implements sessions.DrainStore.
func (s *Store) Drain(ctx context.Context, cluster string, d sessions.Drain) error {
	text, err := json.Marshal(drain{At: d.At.UnixMilli(), Reason: d.Reason})
	if err != nil {
		return fmt.Errorf("encode drain of cluster %s: %w", cluster, err)
	}
	return unavailable(s.rdb.HSetNX(ctx, s.keys.drains(), cluster, text).Err())
}

// Resume implements sessions.DrainStore.
func (s *Store) Resume(ctx context.Context, cluster string) error {
	return unavailable(s.rdb.HDel(ctx, s.keys.drains(), cluster).Err())
}

// Draining implements sessions.DrainStore. What cannot be read is draining all the
// same.
func (s *Store) Draining(ctx context.Context) (map[string]sessions.Drain, error) {
	found, err := s.rdb.HGetAll(ctx, s.keys.drains()).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	all := make(map[string]sessions.Drain, len(found))
	for cluster, text := range found {
		var d drain
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			all[cluster] = sessions.Drain{}
			continue
		}
		all[cluster] = sessions.Drain{At: time.UnixMilli(d.At).UTC(), Reason: d.Reason}
	}
	return all, nil
}
