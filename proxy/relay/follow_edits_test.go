package relay

import (
	"bytes"
	"testing"
)

// The relay sends what Edits.AppendTo says, and gives back the credit of all
// of it, dropped bytes included.
func TestEditsGoOnAsAppendToSays(t *testing.T) {
	tests := map[string]struct {
		edit func(e *Edits)
		want string
	}{
		"keep":                             {func(e *Edits) { e.Keep(10) }, "0123456789"},
		"keep and insert":                  {func(e *Edits) { e.Keep(10); e.Insert([]byte("ab")) }, "0123456789ab"},
		"insert inside":                    {func(e *Edits) { e.Keep(4); e.Insert([]byte("ab")); e.Keep(6) }, "0123ab456789"},
		"two inserts":                      {func(e *Edits) { e.Keep(10); e.Insert([]byte("ab")); e.Insert([]byte("cd")) }, "0123456789abcd"},
		"drop all":                         {func(e *Edits) { e.Drop(10) }, ""},
		"drop the end":                     {func(e *Edits) { e.Keep(7); e.Drop(3) }, "0123456"},
		"drop the beginning":               {func(e *Edits) { e.Drop(2); e.Keep(8) }, "23456789"},
		"replace the beginning":            {func(e *Edits) { e.Drop(2); e.Insert([]byte("abcde")); e.Keep(8) }, "abcde23456789"},
		"replace the middle":               {func(e *Edits) { e.Keep(3); e.Insert([]byte("ab")); e.Drop(2); e.Insert([]byte("cd")); e.Keep(5) }, "012abcd56789"},
		"replace all":                      {func(e *Edits) { e.Drop(10); e.Insert([]byte("ab")) }, "ab"},
		"drop before what is only dropped": {func(e *Edits) { e.Drop(4); e.Drop(6) }, ""},
	}
	for name, tt := range tests {
		for _, end := range []bool{false, true} {
			p := []byte("0123456789")
			tr := &turn{}
			tt.edit(&tr.edits)
			if got := tr.edits.AppendTo(nil, p); string(got) != tt.want {
				t.Errorf("%s: AppendTo says %q, want %q", name, got, tt.want)
			}
			s := &Stream{phase: followed}
			s.back, s.front.conn = &s.back0, &conn{pool: &buffers{}}
			s.emitPieces(segment{body: p, credit: len(p) + 3, from: &s.front, end: end}, &tr.edits, false, (*Stream).emit, tr)
			got, credit, ended := takeApart(t, s, tr)
			if !bytes.Equal(got, []byte(tt.want)) {
				t.Errorf("%s: the relay sends %q, want %q", name, got, tt.want)
			}
			if ended != end || credit != len(p)+3 {
				t.Errorf("%s: end=%v, credit %d of %d", name, ended, credit, len(p)+3)
			}
		}
	}
}

// takeApart reads what emitPieces queued for the backend and the credit it owes.
func takeApart(t *testing.T, s *Stream, tr *turn) (body []byte, credit int, end bool) {
	t.Helper()
	for !s.back.queue.empty() {
		sg := s.back.queue.first()
		if end {
			t.Error("a segment after END_STREAM")
		}
		if sg.size() == 0 && !sg.end && sg.credit == 0 {
			t.Error("an empty segment")
		}
		body = append(append(body, sg.body...), sg.suffix...)
		credit += sg.credit
		end = sg.end
		s.back.queue.pop()
	}
	for _, o := range tr.credits {
		credit += o.n
	}
	return body, credit, end
}
