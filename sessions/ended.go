package sessions

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions/failpoint"
)

// ended sees to an engine that has ended: its sessions have failed, and the next
// request wakes them, where their cluster allows it. The record goes last, and not
// while a member is being woken: so whoever dies in between, here or in that wake,
// leaves a record by which it is found again. e was read after the engine's end.
func (w *Waker) ended(ctx context.Context, c *Cluster, e EngineRecord, gone error) error {
	late, dropped, err := w.drop(ctx, e, gone)
	if err != nil || !dropped {
		return err
	}
	failpoint.Hit("ended.dropped")
	w.Logger.Error("engine has ended", zap.String("cluster", e.Cluster), zap.String("engine", e.ID), zap.Int("sessions", len(e.Members)), zap.Error(gone))
	for id, generation := range late { // one that was woken between the two
		if _, err := w.fail(ctx, id, generation, gone); err != nil {
			return err
		}
	}
	w.stop(c, e.Instance) // whatever it left behind
	return nil
}

// drop marks the members and takes the record away. It says no where one of them is
// being woken: the next look finds that active, or gone.
func (w *Waker) drop(ctx context.Context, e EngineRecord, gone error) (late map[ID]uint64, dropped bool, err error) {
	var rest []ID
	for id, generation := range e.Members {
		failed, err := w.fail(ctx, id, generation, gone)
		if err != nil {
			return nil, false, err
		}
		if !failed {
			rest = append(rest, id)
		}
	}
	token := uuid.NewString()
	for _, id := range rest {
		mine, err := w.Store.LeaseSession(ctx, id, token, w.Lease)
		if err != nil || !mine {
			return nil, false, err
		}
		defer w.giveBack(id, token)
	}
	failpoint.Hit("ended.marked")
	late, err = w.Store.DropEngine(ctx, e.Key, e.ID)
	return late, err == nil, err
}

// fail notes that the engine of an active session has ended. It says no where the
// session was not active on it.
func (w *Waker) fail(ctx context.Context, id ID, generation uint64, why error) (bool, error) {
	_, err := w.Store.Transition(ctx, id, Transition{
		From: Active, Generation: generation, To: Failed, Reason: goneReason(why), At: w.Now(),
	})
	switch {
	case err == nil, errors.Is(err, ErrClosed), errors.Is(err, ErrNotFound): // over, and never woken again
		return true, nil
	case errors.Is(err, ErrConflict):
		return false, nil
	}
	return false, fmt.Errorf("mark session %s, whose engine has ended, as failed: %w", id, err)
}

// goneReason is what the owner reads of an engine that ended.
func goneReason(why error) string {
	text := why.Error()
	if rest, ok := strings.CutPrefix(text, ErrGone.Error()); ok {
		return "its engine has ended" + rest
	}
	return "its engine has ended"
}

// withdraw takes a session off an engine on which it did not become active, and says
// whether it did after all: the answer to a step may be lost, and who lost the
// session's lease may have been overtaken. Only who has the lease takes it off; else
// whoever wakes the session now does, or the sweep.
func (w *Waker) withdraw(p *progress, key EngineKey, c *Cluster, in Instance) (active bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), leaveTimeout)
	defer cancel()
	s := p.session
	mine, err := w.Store.LeaseSession(ctx, s.ID, p.lease, w.Lease)
	now, rerr := w.reread(ctx, s.ID)
	if err = errors.Join(err, rerr); err != nil || !mine {
		w.Logger.Warn("session stays on the engine on which it was woken, until the sweep", zap.String("session", string(s.ID)), zap.Error(err))
	} else if now.Generation == s.Generation {
		w.leave(key, c, s.ID, s.Generation+1)
	}
	return now.State == Active && now.Generation == s.Generation+1 && now.Engine != nil && now.Engine.ID == in.ID
}
