package redisstore_test

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// stepped is one look at a session, or one step of it, and what came of it.
type stepped struct {
	id   sessions.ID
	look bool
	sessions.Transition
}

// come is what a call returned. lost: no answer, so it is done, or will be, or not.
type come struct {
	life
	err  error
	lost bool
}

// life is what a session is, as far as steps go.
type life struct {
	state      sessions.State
	generation uint64
}

// step is the state machine of one session: what a call must return, and what is then.
func (l life) step(in stepped) (life, error) {
	switch {
	case in.look:
		return l, nil
	case !in.Allowed():
		return l, sessions.ErrConflict
	case l.state == sessions.Closed && in.To == sessions.Closed:
		return l, nil
	case l.state == sessions.Closed:
		return l, sessions.ErrClosed
	case in.From != "" && (in.From != l.state || in.Generation != l.generation):
		return l, sessions.ErrConflict
	}
	l.state = in.To
	if in.To == sessions.Active {
		l.generation++
	}
	return l, nil
}

// lives is that machine for porcupine.
var lives = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[sessions.ID][]porcupine.Operation{}
		for _, op := range history {
			id := op.Input.(stepped).id
			by[id] = append(by[id], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range by {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return life{state: sessions.Pending} },
	Step: func(state, input, output any) (bool, any) {
		was, in, out := state.(life), input.(stepped), output.(come)
		is, err := was.step(in)
		if out.lost {
			return true, is // or not at all: then it comes after everything else
		}
		return errors.Is(out.err, err) && (err != nil || out.life == is), is
	},
}

// One session's steps, taken by three replicas at once, are as if they came one after
// another: no step is lost, none is done twice, and nothing follows a close. So it is
// too while connections to Redis are cut, when some callers do not learn what came of
// their step.
func TestStepsAreLinearizable(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("connections cut: %v", cut), func(t *testing.T) {
			t.Parallel()
			server := storetest.StartRedis(t)
			h := &history{began: time.Now(), due: make(chan struct{}, 1)}
			var ids []sessions.ID
			var stores []*redisstore.Store
			for range 3 {
				stores = append(stores, open(t, redisstore.Config{Addresses: []string{server.Addr}}))
			}
			for i := range 36 {
				id, err := sessions.NewID(time.Now(), crand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				made, err := stores[0].Create(t.Context(), sessions.Session{
					ID: id, Org: "physics", Owner: fmt.Sprintf("owner-%d", i), Name: "n", Cluster: "c",
					State: sessions.Pending, CreatedAt: time.Now(), ChangedAt: time.Now(),
				}, "")
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, made.ID)
			}
			var cutter, callers sync.WaitGroup
			if cut {
				cutter.Go(func() { cutClients(t, server.Addr, h.due) })
			}
			for n := range 9 {
				callers.Go(func() { h.call(t.Context(), n, stores[n%len(stores)], ids) })
			}
			callers.Wait()
			close(h.due)
			cutter.Wait()
			h.judge(t, cut)
		})
	}
}

// cutClients ends all connections of others whenever that is due.
func cutClients(t *testing.T, addr string, due <-chan struct{}) {
	rdb := redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: patience, DialTimeout: patience})
	defer rdb.Close()
	for range due {
		if err := rdb.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Error(err)
		}
	}
}

// history is what happened when.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
	done  int           // calls that were answered
	due   chan struct{} // has one whenever cutEvery more were
}

const (
	callsEach = 2000
	// cutEvery is by what was done, and not by the clock: on a slow machine there is as
	// much to judge as on any.
	cutEvery = 20
)

// call looks at sessions and takes steps that are right, late, or wrong.
func (h *history) call(ctx context.Context, client int, s *redisstore.Store, ids []sessions.ID) {
	rnd := rand.New(rand.NewPCG(7, uint64(client))) //nolint:gosec // it shall repeat
	states := []sessions.State{sessions.Pending, sessions.Active, sessions.Idle, sessions.Failed}
	known := map[sessions.ID]life{}
	for range callsEach {
		in := stepped{id: ids[rnd.IntN(len(ids))], look: rnd.IntN(3) == 0}
		if in.Transition = (sessions.Transition{To: states[rnd.IntN(len(states))], At: time.Now()}); rnd.IntN(150) == 0 {
			in.Transition = sessions.CloseAt(time.Now(), "enough")
		} else {
			in.From, in.Generation = known[in.id].state, known[in.id].generation
		}
		if in.From == "" && in.To != sessions.Closed {
			in.look = true
		}
		began := time.Since(h.began)
		out := do(ctx, s, in)
		h.note(client, in, out, began)
		if out.err == nil && !out.lost {
			known[in.id] = out.life
		}
	}
}

func do(ctx context.Context, s *redisstore.Store, in stepped) (out come) {
	var found sessions.Session
	if in.look {
		list, err := s.Get(ctx, in.id)
		if out.err = err; err == nil && len(list) == 1 {
			found = list[0]
		}
	} else {
		found, out.err = s.Transition(ctx, in.id, in.Transition)
	}
	out.life = life{found.State, found.Generation}
	// A close may come with an error: what is left to tidy up.
	out.lost = errors.Is(out.err, sessions.ErrUnavailable)
	return out
}

func (h *history) note(client int, in stepped, out come, began time.Duration) {
	ended := int64(time.Since(h.began))
	if out.lost {
		ended = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.lost {
		client = 1000 + len(h.ops) // it goes on, beside what the client does next
	} else if h.done++; h.done%cutEvery == 0 {
		select {
		case h.due <- struct{}{}:
		default: // the cut before is still to come
		}
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: int64(began), Return: ended})
}

// illegal is the end of the shortest history that cannot have been, in the order of its returns.
func illegal(part []porcupine.Operation) (lines []string) {
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	until := func(n int) (short []porcupine.Operation) {
		short = append(short, part[:n]...)
		for _, op := range part[n:] {
			if op.Call < part[n-1].Return {
				out := op.Output.(come)
				out.lost, op.Return, op.ClientId = true, math.MaxInt64, 1_000_000+len(short)
				op.Output = out
				short = append(short, op)
			}
		}
		return short
	}
	n := 1 + sort.Search(len(part)-1, func(n int) bool { return !porcupine.CheckOperations(lives, until(n+1)) })
	for i, op := range until(n) {
		if i < n-20 {
			continue
		}
		in, out := op.Input.(stepped), op.Output.(come)
		what := fmt.Sprintf("%s %d -> %s", in.From, in.Generation, in.To)
		if in.look {
			what = "look"
		}
		lines = append(lines, fmt.Sprintf("%9d to %9d us: %s: %s %d, lost %v, %v", op.Call/1000, op.Return/1000, what, out.state, out.generation, out.lost, out.err))
	}
	return lines
}

// judge also sees that there was something to judge.
func (h *history) judge(t *testing.T, cut bool) {
	did, lost, conflicts, closed := 0, 0, 0, 0
	for _, op := range h.ops {
		in, out := op.Input.(stepped), op.Output.(come)
		switch {
		case out.lost:
			lost++
		case errors.Is(out.err, sessions.ErrConflict):
			conflicts++
		case errors.Is(out.err, sessions.ErrClosed):
			closed++
		case out.err != nil:
			t.Errorf("%+v: %v", in, out.err)
		case !in.look:
			did++
		}
	}
	t.Logf("%d calls: %d steps, %d conflicts, %d after a close, %d without an answer", len(h.ops), did, conflicts, closed, lost)
	if did < 50 || conflicts < 50 || closed == 0 || cut != (lost > 0) {
		t.Error("that is too little to judge by")
	}
	if result := porcupine.CheckOperationsTimeout(lives, h.ops, time.Minute); result != porcupine.Ok {
		t.Errorf("the history is not that of one state machine for each session: %v", result)
		for _, part := range lives.Partition(h.ops) {
			if porcupine.CheckOperationsTimeout(lives, part, 10*time.Second) != porcupine.Illegal {
				continue
			}
			for _, line := range illegal(part) {
				t.Log(line)
			}
		}
	}
}
