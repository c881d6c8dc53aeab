package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// How long what a fault left behind may be seen.
const (
	deadFor   = 5 * time.Second // an active session whose engine is dead
	orphanFor = time.Minute     // an engine without a record
)

// stepped hears of every change of state, as it is made.
func (w *world) stepped(id sessions.ID, t sessions.Transition, s sessions.Session, err error) {
	if err != nil {
		return
	}
	engine := ""
	if t.Engine != nil {
		engine = " on " + t.Engine.ID
	}
	w.note("%s becomes %s%s, generation %d (%s)", id, s.State, engine, s.Generation, s.Reason)
	w.mu.Lock()
	again := w.closed[id] && s.State != sessions.Closed
	w.closed[id] = s.State == sessions.Closed
	if t.To == sessions.Active {
		w.active[id]++
	}
	active, loose := w.active[id], w.loose
	w.mu.Unlock()
	if t.From == sessions.Active && t.To == sessions.Failed && !loose && !w.engines.died(s.Engine.ID) {
		w.fault("%s has failed, and its engine %s did not die by itself", id, s.Engine.ID)
	}
	if again {
		w.fault("%s was closed and is %s", id, s.State)
	}
	if s.Generation != active {
		w.fault("%s has generation %d and became active %d times", id, s.Generation, active)
	}
}

// stopping hears of every engine that is stopped on purpose: none that is in use.
func (w *world) stopping(id string) {
	w.note("%s is stopped", id)
	if !w.engines.runs(id) {
		return
	}
	for _, r := range w.all() {
		for _, s := range r.open() {
			if s.engine != id {
				continue
			}
			r.endStream(s) // the connection is reset
			found, err := w.memory.Get(context.Background(), s.session)
			if err == nil && len(found) == 1 && (found[0].State == sessions.Active || found[0].State == sessions.Idle) {
				w.fault("%s is stopped while a stream of %s is open on it", id, s.session)
			}
		}
	}
}

// watch looks every second at what may not last.
func (w *world) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if w.well() {
			w.look(time.Second)
		}
	}
}

// well says that somebody is there who can see to it.
func (w *world) well() bool {
	w.mu.Lock()
	away := w.away
	w.mu.Unlock()
	for _, r := range w.all() {
		if !away && r.fit() {
			return true
		}
	}
	w.mu.Lock()
	clear(w.bad)
	w.mu.Unlock()
	return false
}

func (w *world) look(passed time.Duration) {
	up, err := w.memory.Engines(context.Background())
	if err != nil {
		return
	}
	known := map[string]bool{}
	for _, e := range up {
		known[e.ID] = true
	}
	now := map[string]time.Duration{}
	for _, l := range w.engines.all() {
		if !known[l.ID] {
			now[l.ID+" runs without a record"] = orphanFor
		}
	}
	for _, s := range w.sessions() {
		if s.State == sessions.Active && !w.engines.runs(s.Engine.ID) {
			now[fmt.Sprintf("%s is active on %s, which is dead", s.ID, s.Engine.ID)] = deadFor
		}
	}
	w.mu.Lock()
	for what := range w.bad {
		if _, still := now[what]; !still {
			delete(w.bad, what)
		}
	}
	var late []string
	for what, limit := range now {
		if w.bad[what] += passed; w.bad[what] > limit+time.Second {
			late = append(late, what)
			w.bad[what] = -time.Hour
		}
	}
	w.mu.Unlock()
	for _, what := range late {
		w.fault("%s, for more than %s", what, now[what])
	}
}

func (w *world) sessions() []sessions.Session {
	w.mu.Lock()
	ids := append([]sessions.ID(nil), w.ids...)
	w.mu.Unlock()
	found, err := w.memory.Get(context.Background(), ids...)
	if err != nil {
		return nil
	}
	return found
}

// settled is when whatever a crash left has been found: see Reaper.
const settled = 4 * time.Minute

// rest ends all faults and uses, and checks that nothing runs for nobody.
func (w *world) rest() {
	w.note("all come to rest")
	w.tasks.Wait() // lookups, and the registry's return
	w.revive()
	w.engines.mu.Lock()
	w.engines.fails = false
	w.engines.mu.Unlock()
	for _, r := range w.replicas {
		r.mu.Lock()
		r.dies, r.loses, r.paused = time.Time{}, 0, time.Time{}
		r.mu.Unlock()
		for _, s := range r.open() {
			r.endStream(s)
		}
	}
	time.Sleep(settled)
	for _, s := range w.sessions() {
		if s.State == sessions.Active {
			w.fault("%s is active still, and nobody uses it", s.ID)
		}
	}
	for _, l := range w.engines.all() {
		w.fault("%s runs still, and nobody uses it", l.ID)
	}
	if up, _ := w.memory.Engines(context.Background()); len(up) > 0 {
		w.fault("%s has a record still, and nobody uses it", up[0].ID)
	}
}

// again uses every session once more: it works, or it is said why not.
func (w *world) again() {
	w.note("all are used again")
	for i, s := range w.sessions() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		route, err := w.replicas[i%len(w.replicas)].resolver.Lookup(ctx, s.ID)
		cancel()
		switch {
		case s.State == sessions.Closed:
			if !errors.Is(err, sessions.ErrClosed) {
				w.fault("%s is closed, and a lookup says %v", s.ID, err)
			}
		case s.State == sessions.Failed && s.Generation == 0:
			if !errors.Is(err, sessions.ErrFailed) {
				w.fault("%s has failed, and a lookup says %v", s.ID, err)
			}
		case err != nil:
			w.fault("%s cannot be used again: %v", s.ID, err)
		case !w.engines.runs(route.Session.Engine.ID):
			w.fault("%s is led to %s, which does not run", s.ID, route.Session.Engine.ID)
		}
	}
}
