package relay

import "testing"

// TestTurnLeavesNothingBehind: a connection to an engine lives for days, and its turn
// with it; connections of clients that it once flushed must not stay in memory by it.
func TestTurnLeavesNothingBehind(t *testing.T) {
	var busy turn
	for range 50 {
		busy.touched = append(busy.touched, &conn{})
	}
	for len(busy.touched) > 0 {
		if pop(&busy.touched) == nil {
			t.Fatal("a connection was lost")
		}
	}
	for i, c := range busy.touched[:50] {
		if c != nil {
			t.Errorf("place %d still holds its connection", i)
		}
	}
}
