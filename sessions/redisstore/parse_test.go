package redisstore

import (
	"fmt"
	"testing"

	"github.com/sconce-dev/sconce/sessions"
)

const someID = "s-034t1qv2i0g6u5p4c3b2a1908g"

// Whatever comes by the channel, what is read from it says the same again.
func FuzzParseChange(f *testing.F) {
	for _, seed := range []string{someID + " closed 1 2", someID + " active 0 18446744073709551615", "", "a b c d", someID + " closed -1 2", someID + " asleep 1 2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		c, err := parseChange(payload)
		if err != nil {
			return
		}
		if !c.ID.Valid() || !c.State.Valid() {
			t.Errorf("%q gave %+v", payload, c)
		}
		again, err := parseChange(fmt.Sprintf("%s %s %d %d", c.ID, c.State, c.Generation, c.Revision))
		if err != nil || again != c {
			t.Errorf("%q gave %+v, and that %+v, %v", payload, c, again, err)
		}
	})
}

func TestParseChange(t *testing.T) {
	got, err := parseChange(someID + " idle 3 7")
	want := sessions.Change{ID: someID, State: sessions.Idle, Generation: 3, Revision: 7}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", someID, someID + " idle 3", someID + " idle 3 7 9", someID + " idle x 7", someID + " idle 3 x", "s-1 idle 3 7"} {
		if _, err := parseChange(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// Names from outside can't end a hash tag or run into each other.
func TestTagsDiffer(t *testing.T) {
	seen := map[string][]string{}
	for _, names := range [][]string{{"a", "b"}, {"ab", ""}, {"", "ab"}, {"ab"}, {"a}b", ""}, {"a", "b", ""}} {
		tag := tag(names...)
		if other := seen[tag]; other != nil {
			t.Errorf("%q and %q share a tag", names, other)
		}
		seen[tag] = names
	}
}
