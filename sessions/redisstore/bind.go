package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// Bind implements sessions.Directory. The claim comes before the session's own
// set, so the set never names an id that another session could have. A claim
// that led to nothing is taken back; one of a closed session expires as if it had
// been bound, since a request with it may be under way.
func (s *Store) Bind(ctx context.Context, id sessions.ID, spark sessions.SparkID) error {
	if !id.Valid() {
		return sessions.ErrNotFound
	}
	claimed, err := claim.Run(ctx, s.rdb, []string{s.keys.binding(spark)}, string(id)).Text()
	if err != nil {
		return unavailable(err)
	}
	if claimed == "foreign" {
		return sessions.ErrForeignSpark
	}
	attached, err := attach.Run(ctx, s.rdb, []string{s.keys.session(id), s.keys.bound(id)}, string(spark), s.maxBound).Text()
	if err != nil {
		return unavailable(err)
	}
	switch attached {
	case "done":
		return nil
	case "closed":
		return s.takeBack(ctx, id, spark, s.keep+bindingsOutlive, sessions.ErrClosed)
	case "missing":
		return s.takeBack(ctx, id, spark, 0, sessions.ErrNotFound)
	case "full":
		return s.takeBack(ctx, id, spark, 0, sessions.ErrTooManyBound)
	}
	return fmt.Errorf("attach script: unknown answer %q", attached)
}

// takeBack ends a claim and returns why, or why even that failed.
func (s *Store) takeBack(ctx context.Context, id sessions.ID, spark sessions.SparkID, keep time.Duration, why error) error {
	if err := s.unclaim(ctx, id, spark, keep); err != nil {
		return fmt.Errorf("%w; %w", why, err)
	}
	return why
}

func (s *Store) unclaim(ctx context.Context, id sessions.ID, spark sessions.SparkID, keep time.Duration) error {
	return unavailable(unclaim.Run(ctx, s.rdb, []string{s.keys.binding(spark)}, string(id), keep.Milliseconds()).Err())
}
