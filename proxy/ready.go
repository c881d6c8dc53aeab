package proxy

import (
	"slices"
	"sync"
)

// Ready says whether traffic should come here. It is a list of conditions, each
// unmet with a reason, or met. Any goroutine may use it.
type Ready struct {
	mu      sync.Mutex
	unmet   []Unmet
	notes   []Unmet
	changed chan struct{} // closed and replaced when the list changes
}

// Unmet is a condition that does not hold.
type Unmet struct {
	Condition string `json:"condition"`
	Reason    string `json:"reason,omitempty"`
}

// NewReady starts with every condition unmet, because nothing has begun.
func NewReady(conditions ...string) *Ready {
	r := &Ready{changed: make(chan struct{})}
	for _, c := range conditions {
		r.unmet = append(r.unmet, Unmet{c, "starting"})
	}
	return r
}

// Met notes that the condition holds.
func (r *Ready) Met(condition string) { r.set(condition, "") }

// Fail notes that it does not, and why.
func (r *Ready) Fail(condition, reason string) { r.set(condition, reason) }

func (r *Ready) set(condition, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.unmet, func(u Unmet) bool { return u.Condition == condition })
	switch {
	case i < 0 && reason == "", i >= 0 && r.unmet[i].Reason == reason:
		return
	case i < 0:
		r.unmet = append(r.unmet, Unmet{condition, reason})
	case reason == "":
		r.unmet = slices.Delete(r.unmet, i, i+1)
	default:
		r.unmet[i].Reason = reason
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Note says what is wrong without being a reason to keep traffic away; reason ""
// takes it back. /readyz of the admin listener shows it.
func (r *Ready) Note(about, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = slices.DeleteFunc(r.notes, func(u Unmet) bool { return u.Condition == about })
	if reason != "" {
		r.notes = append(r.notes, Unmet{about, reason})
	}
}

// Notes returns what Note said.
func (r *Ready) Notes() []Unmet {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.notes)
}

// Unmet returns what does not hold; none = ready. The channel is closed at the
// next change.
func (r *Ready) Unmet() ([]Unmet, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.unmet), r.changed
}
