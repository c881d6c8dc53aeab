package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Drain says since when, and why, a cluster takes nothing new.
type Drain struct {
	At time.Time
	// Reason is the operator's, for all to read; "" = none was given.
	Reason string
}

// DrainStore is the part of the registry that knows which clusters are draining. It
// is asked at each create and launch, so that a drain bites everywhere at once. Every
// method may also return ErrUnavailable.
type DrainStore interface {
	// Drain records a cluster as draining. One that is already stays as it is.
	Drain(ctx context.Context, cluster string, d Drain) error
	// Resume ends it. For one that is not draining it does nothing.
	Resume(ctx context.Context, cluster string) error
	// Draining returns the clusters that are, by name.
	Draining(ctx context.Context) (map[string]Drain, error)
}

// ErrDraining: the cluster takes nothing new. See DrainError.
var ErrDraining = errors.New("cluster is draining")

// DrainError says which cluster is draining and why. It is an ErrDraining, and none
// that is remembered: the next try may find the cluster active.
type DrainError struct{ Cluster, Reason string }

func (e *DrainError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("cluster %s is draining", e.Cluster)
	}
	return fmt.Sprintf("cluster %s is draining: %s", e.Cluster, e.Reason)
}
func (e *DrainError) Is(target error) bool { return target == ErrDraining }

// takes says whether a cluster takes a new session, or a new engine. *DrainError.
func (w *Waker) takes(ctx context.Context, c *Cluster) error {
	all, err := w.Store.Draining(ctx)
	if err != nil {
		return err
	}
	if d, ok := all[c.Name]; ok {
		return &DrainError{Cluster: c.Name, Reason: d.Reason}
	}
	return nil
}
