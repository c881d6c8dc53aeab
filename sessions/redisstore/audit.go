package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

// AppendAudit implements sessions.AuditStore. The stream is cut to about maxAudit
// entries, the oldest first.
func (s *Store) AppendAudit(ctx context.Context, entries []sessions.AuditEntry) error {
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range entries {
			p.XAdd(ctx, &redis.XAddArgs{Stream: s.keys.audit(), MaxLen: s.maxAudit, Approx: true, Values: auditFields(e)})
		}
		return nil
	})
	return unavailable(err)
}

// auditFields is an entry as field, value; what is empty is left out.
func auditFields(e sessions.AuditEntry) []any {
	fields := []any{"time", e.At.UnixMilli()}
	admin := ""
	if e.Admin {
		admin = "true"
	}
	for _, f := range [][2]string{
		{"actor", e.Actor}, {"org", e.Org}, {"admin", admin}, {"via", e.Via}, {"action", string(e.Action)}, {"session", string(e.Session)},
		{"cluster", e.Cluster}, {"tokens", e.TokenIDs}, {"key", e.KeyID}, {"source", e.Source}, {"outcome", e.Outcome}, {"reason", e.Reason}, {"request", e.RequestID},
	} {
		if f[1] != "" {
			fields = append(fields, f[0], f[1])
		}
	}
	return fields
}
