package relay

// turn is what one goroutine has begun and must finish once it holds no lock:
// connections to flush, credit to give back, sides and streams that are over.
// A connection's reader has one and settles it after each read; others borrow
// one from the server.
type turn struct {
	touched []*conn
	credits []owed
	over    []*half
	done    []*Stream
	failed  []failure
	slots   []*Backend     // have a free slot and streams that wait
	spent   []*backendConn // carry no streams and take no more
	edits   Edits
}

// owed is credit for n body bytes that were written to the other side.
type owed struct {
	h *half
	n int
}

// failure is a stream that its backend cannot take.
type failure struct {
	stream *Stream
	cause  error
}

// touch notes that c has something to write.
func (t *turn) touch(c *conn) {
	for i := len(t.touched) - 1; i >= 0 && i >= len(t.touched)-8; i-- {
		if t.touched[i] == c {
			return
		}
	}
	t.touched = append(t.touched, c)
}

// pop takes the last one out. It leaves nothing behind: a turn lives as long as its
// connection, and what was over long ago would stay in memory.
func pop[T any](list *[]T) (last T) {
	end := len(*list) - 1
	last, (*list)[end] = (*list)[end], last
	*list = (*list)[:end]
	return last
}

func (t *turn) owe(h *half, n int) {
	if n == 0 || h == nil {
		return
	}
	if k := len(t.credits); k > 0 && t.credits[k-1].h == h {
		t.credits[k-1].n += n
		return
	}
	t.credits = append(t.credits, owed{h, n})
}

// settleOver ends what streams leave behind of which one side is over.
func (t *turn) settleOver() {
	for len(t.over) > 0 {
		h := pop(&t.over)
		h.stream.sideOver(h, t)
	}
}

// settle does all that is left. Flushing one connection may owe credit on
// another, so it goes on until nothing is left; it ends because credit
// causes only control frames.
func (t *turn) settle() {
	for {
		switch {
		case len(t.over) > 0:
			t.settleOver()
		case len(t.credits) > 0:
			for i, o := range t.credits {
				o.h.conn.credit(o.h, o.n, t)
				t.credits[i] = owed{}
			}
			t.credits = t.credits[:0]
		case len(t.touched) > 0:
			c := pop(&t.touched)
			c.flush(t)
		case len(t.failed) > 0:
			f := pop(&t.failed)
			f.stream.broken(f.cause, t)
		case len(t.slots) > 0:
			b := pop(&t.slots)
			b.serveWaiting(t)
		case len(t.spent) > 0:
			bc := pop(&t.spent)
			bc.fail()
		case len(t.done) > 0:
			s := pop(&t.done)
			s.tellDone()
		default:
			return
		}
	}
}
