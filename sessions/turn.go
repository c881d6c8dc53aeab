package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	// turnLease is after how long a turn passes on whose holder died.
	turnLease = time.Minute
	// prepareWithin is how long an engine may take to be prepared; less than turnLease.
	prepareWithin = 30 * time.Second
	// turnAgain is how often one asks whose turn another has.
	turnAgain = 50 * time.Millisecond
)

// Prepare is Bind for a Spark session that is new to the engine: before it is
// bound, it is brought to what its session chose. Where several requests of it
// come at once, on whichever replicas, one prepares it and all wait; once it is
// bound it is never prepared again, so that what the client sets stands. The
// errors of Bind; *SetupError, ErrRefused, ErrEngineAway.
func (r *Resolver) Prepare(ctx context.Context, route *Route, spark SparkID) error {
	if r.Engine == nil || !route.Session.HasSetup() || route.Bound(spark) {
		return r.Bind(ctx, route, spark)
	}
	holder := uuid.NewString()
	for {
		turn, err := r.takeTurn(ctx, route, spark, holder)
		switch {
		case err != nil:
			return fmt.Errorf("bind spark session: %w", err)
		case turn == TurnOver:
			route.live.add(spark)
			return nil
		case turn == TurnMine:
			return r.prepare(ctx, route, spark, holder)
		}
		again := time.NewTimer(turnAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		}
	}
}

func (r *Resolver) takeTurn(ctx context.Context, route *Route, spark SparkID, holder string) (Turn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.ReadTimeout)
	defer cancel()
	turn, err := r.Turns.TakeTurn(ctx, route.Session.ID, spark, holder, turnLease)
	if errors.Is(err, ErrClosed) {
		r.ask(route.Session.ID)
	}
	return turn, err
}

// prepare takes the turn that the caller has.
func (r *Resolver) prepare(ctx context.Context, route *Route, spark SparkID, holder string) error {
	limited, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	err := r.Engine.Prepare(limited, route.Cluster, route.Session, spark)
	if err == nil {
		err = r.Bind(ctx, route, spark)
	}
	rest, stop := context.WithTimeout(context.WithoutCancel(ctx), r.ReadTimeout)
	defer stop()
	// A turn that could not be given back passes on after turnLease.
	_ = r.Turns.GiveTurn(rest, route.Session.ID, spark, holder)
	return err
}
