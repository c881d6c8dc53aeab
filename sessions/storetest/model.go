package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/sconce-dev/sconce/sessions"
)

// model is the registry as one would write it on paper: what each step must give.
type model struct {
	*suite
	t *testing.T

	sessions map[sessions.ID]sessions.Session
	order    []sessions.ID
	holder   map[sessions.SparkID]sessions.ID
	sparks   []sessions.SparkID
}

// testAgainstModel does random steps, by random callers with true and false
// beliefs, to the registry and to the model.
func testAgainstModel(t *testing.T, s *suite) {
	rapid.Check(t, func(rt *rapid.T) {
		own := *s
		own.org = uuid.NewString()
		m := &model{suite: &own, t: t, sessions: map[sessions.ID]sessions.Session{}, holder: map[sessions.SparkID]sessions.ID{}}
		for range 5 {
			m.sparks = append(m.sparks, newSpark())
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create": m.tryCreate,
			"step":   m.tryStep,
			"close":  m.tryClose,
			"bind":   m.tryBind,
			"":       m.check,
		})
	})
}

func (m *model) tryCreate(rt *rapid.T) {
	asked := m.session(rt, rapid.SampledFrom([]string{"ann", "bob"}).Draw(rt, "owner"), rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "name"))
	made, err := m.Create(context.Background(), asked, "")
	for _, have := range m.sessions {
		if have.Owner == asked.Owner && have.Name == asked.Name && have.State != sessions.Closed {
			wantError(rt, err, sessions.ErrNameTaken)
			return
		}
	}
	must(rt, err)
	m.sessions[made.ID] = made
	m.order = append(m.order, made.ID)
}

// any draws one of the sessions, or skips the step where there is none.
func (m *model) any(rt *rapid.T) sessions.Session {
	if len(m.order) == 0 {
		rt.Skip("no session yet")
	}
	return m.sessions[rapid.SampledFrom(m.order).Draw(rt, "session")]
}

// tryStep takes a transition by somebody whose belief may be stale.
func (m *model) tryStep(rt *rapid.T) {
	have := m.any(rt)
	belief := have
	belief.State = rapid.SampledFrom([]sessions.State{have.State, have.State, sessions.Pending, sessions.Active}).Draw(rt, "from")
	belief.Generation = uint64(rapid.SampledFrom([]int{int(have.Generation), int(have.Generation), 0, 1}).Draw(rt, "generation"))
	tr := m.transition(belief, rapid.SampledFrom(states).Draw(rt, "to"))
	after, err := m.Transition(context.Background(), have.ID, tr)
	switch {
	case !tr.From.May(tr.To):
		wantError(rt, err, sessions.ErrConflict)
	case have.State == sessions.Closed && tr.To == sessions.Closed:
		must(rt, err)
		wantSession(rt, after, have)
	case have.State == sessions.Closed:
		wantError(rt, err, sessions.ErrClosed)
	case belief.State != have.State || belief.Generation != have.Generation:
		wantError(rt, err, sessions.ErrConflict)
	default:
		must(rt, err)
		checkStep(rt, have, tr, after)
		m.sessions[have.ID] = after
	}
}

func (m *model) tryClose(rt *rapid.T) {
	have := m.any(rt)
	tr := sessions.CloseAt(m.now, "closed")
	after, err := m.Transition(context.Background(), have.ID, tr)
	must(rt, err)
	if have.State == sessions.Closed {
		wantSession(rt, after, have)
		return
	}
	checkStep(rt, have, tr, after)
	m.sessions[have.ID] = after
}

func (m *model) tryBind(rt *rapid.T) {
	have := m.any(rt)
	spark := rapid.SampledFrom(m.sparks).Draw(rt, "spark")
	err := m.Bind(context.Background(), have.ID, spark)
	holder, held := m.holder[spark]
	switch {
	case held && holder != have.ID:
		wantError(rt, err, sessions.ErrForeignSpark)
	case have.State == sessions.Closed:
		wantError(rt, err, sessions.ErrClosed)
		m.holder[spark] = have.ID // stays refused to all others
	case !held && m.count(have.ID) >= MaxBound:
		wantError(rt, err, sessions.ErrTooManyBound)
	default:
		must(rt, err)
		m.holder[spark] = have.ID
	}
}

func (m *model) count(id sessions.ID) (n int) {
	for _, h := range m.holder {
		if h == id {
			n++
		}
	}
	return n
}

// check compares everything the registry can be asked.
func (m *model) check(rt *rapid.T) {
	found, err := m.Get(context.Background(), m.order...)
	must(rt, err)
	if len(found) != len(m.order) {
		rt.Fatalf("%d records, want %d", len(found), len(m.order))
	}
	var open []sessions.ID
	for _, one := range found {
		wantSession(rt, one, m.sessions[one.ID])
		if one.State != sessions.Closed {
			open = append(open, one.ID)
		}
	}
	slices.Reverse(open)
	if got := m.listAll(rt, sessions.Query{Org: m.org, Limit: 2}); !slices.Equal(got, open) {
		rt.Errorf("listed %v, want %v", got, open)
	}
}
