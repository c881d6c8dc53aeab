package proxy

import (
	"slices"
	"testing"
)

func TestReadyTellsChanges(t *testing.T) {
	r := NewReady("a", "b")
	unmet, changed := r.Unmet()
	if len(unmet) != 2 {
		t.Fatalf("at first: %v", unmet)
	}
	r.Fail("a", "starting") // as it was
	select {
	case <-changed:
		t.Error("told a change where there was none")
	default:
	}
	r.Met("a")
	<-changed
	r.Fail("c", "late")
	if unmet, _ := r.Unmet(); !slices.Equal(unmet, []Unmet{{"b", "starting"}, {"c", "late"}}) {
		t.Errorf("then: %v", unmet)
	}
}
