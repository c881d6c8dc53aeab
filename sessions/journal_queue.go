package sessions

import "sync"

type settlement struct {
	Ticket
	commit bool
}

// maxPending bounds the entries that wait to be settled, and maxPendingOf those of one
// session. One beyond it stays uncommitted, which is safe.
const (
	maxPending   = 100_000
	maxPendingOf = 1_000
)

// settleQueue holds the entries that wait to be settled: those of one session in their
// order, and the sessions by turns, so that none waits for all that another has there.
type settleQueue struct {
	mu    sync.Mutex
	n     int
	of    map[ID][]settlement // none empty
	turns []ID                // the sessions in of, whose turn is next first
	whole map[Ticket]struct{} // those of a whole journal
	now   Ticket              // is being settled
}

func newSettleQueue() settleQueue {
	return settleQueue{of: make(map[ID][]settlement), whole: make(map[Ticket]struct{})}
}

// add says whether there was room. A journal that waits to be dropped whole need not wait
// twice: all that is in it by then goes.
func (q *settleQueue) add(s settlement) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, waits := q.whole[s.Ticket]; waits {
		return true
	}
	if q.n >= maxPending || len(q.of[s.session]) >= maxPendingOf {
		return false
	}
	q.put(s, append(q.of[s.session], s))
	return true
}

// putBack is add for what was next before, whether there is room or not. Its session
// waits for another turn.
func (q *settleQueue) putBack(s settlement) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.now = Ticket{}
	q.put(s, append([]settlement{s}, q.of[s.session]...))
}

// put is under mu; list is all that its session has, s too.
func (q *settleQueue) put(s settlement, list []settlement) {
	if len(list) == 1 {
		q.turns = append(q.turns, s.session)
	}
	q.of[s.session] = list
	q.n++
	if s.seq == 0 {
		q.whole[s.Ticket] = struct{}{}
	}
}

// next takes out the first of the session whose turn it is.
func (q *settleQueue) next() (s settlement, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.now = Ticket{}
	if q.n == 0 {
		return settlement{}, false
	}
	id := q.turns[0]
	q.turns = q.turns[1:]
	list := q.of[id]
	s = list[0]
	if len(list) > 1 {
		q.of[id] = list[1:]
		q.turns = append(q.turns, id)
	} else {
		delete(q.of, id)
	}
	q.n--
	delete(q.whole, s.Ticket)
	q.now = s.Ticket
	return s, true
}

// holds says whether a journal waits to be dropped whole, or is being dropped.
func (q *settleQueue) holds(t Ticket) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, waits := q.whole[t]
	return waits || q.now == t
}
