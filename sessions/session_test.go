package sessions_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
)

func TestNewID(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_123)
	var ids []sessions.ID
	for i := range 100 {
		id, err := sessions.NewID(now.Add(time.Duration(i)*time.Millisecond), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !id.Valid() || !id.Time().Equal(now.Add(time.Duration(i)*time.Millisecond)) {
			t.Fatalf("%s: valid %v, time %s", id, id.Valid(), id.Time())
		}
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by time")
	}
	if _, err := sessions.NewID(now, strings.NewReader("short")); err == nil {
		t.Error("an id without its randomness")
	}
}

func TestInvalidIDs(t *testing.T) {
	good := "s-034t1qv2i0g6u5p4c3b2a1908g"
	if !sessions.ID(good).Valid() {
		t.Fatal("the good one is not")
	}
	for _, bad := range []string{"", "s-", good[2:], strings.ToUpper(good), good + "0", "t" + good[1:], good[:10] + "w" + good[11:], good[:27] + "}", good[:27] + "\n", good[:27] + "h"} {
		if id := sessions.ID(bad); id.Valid() || !id.Time().IsZero() {
			t.Errorf("%q is valid", bad)
		}
	}
}

// Only the canonical form: what the engines read as the same id must be one string.
func TestParseSparkID(t *testing.T) {
	good := "0c9a6f9e-0000-4bcd-8ef0-123456789abc"
	if id, ok := sessions.ParseSparkID(good); !ok || string(id) != good {
		t.Error("a canonical id was refused")
	}
	for _, bad := range []string{
		"", "1-1-1-1-1", "../../x", strings.ToUpper(good), "{" + good + "}", "urn:uuid:" + good,
		strings.ReplaceAll(good, "-", ""), good + " ", good[:35], good[:35] + "g", strings.Replace(good, "-", "0", 1), good[:8] + "--" + good[10:],
	} {
		if _, ok := sessions.ParseSparkID(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// Against another parser: what is accepted is a UUID in the form it is written in.
func FuzzParseSparkID(f *testing.F) {
	f.Add("0c9a6f9e-0000-4bcd-8ef0-123456789abc")
	f.Add("0C9A6F9E-0000-4BCD-8EF0-123456789ABC")
	f.Fuzz(func(t *testing.T, s string) {
		_, ok := sessions.ParseSparkID(s)
		u, err := uuid.Parse(s)
		if want := err == nil && u.String() == s; ok != want {
			t.Errorf("%q: accepted %v, want %v", s, ok, want)
		}
	})
}

func TestStates(t *testing.T) {
	all := []sessions.State{sessions.Pending, sessions.Active, sessions.Idle, sessions.Failed, sessions.Closed}
	for _, s := range all {
		if !s.Valid() {
			t.Errorf("%s is no state", s)
		}
		if sessions.Closed.May(s) {
			t.Errorf("closed becomes %s", s)
		}
		if s != sessions.Closed && !s.May(sessions.Closed) {
			t.Errorf("%s can't be closed", s)
		}
		if s.May(sessions.Pending) || s.May(s) {
			t.Errorf("%s becomes pending, or itself", s)
		}
	}
	if sessions.State("asleep").Valid() || sessions.State("asleep").May(sessions.Closed) {
		t.Error("a state that is none")
	}
	if !sessions.CloseAt(time.Now(), "").Allowed() || (sessions.Transition{To: sessions.Active}).Allowed() {
		t.Error("only a close may come from anywhere")
	}
}

func TestClusters(t *testing.T) {
	one, err := sessions.NewClusters([]sessions.Cluster{{Name: "a", Address: "h:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := one.Get(""); err != nil || c.Name != "a" {
		t.Errorf("the only cluster: %+v, %v", c, err)
	}
	two, err := sessions.NewClusters([]sessions.Cluster{{Name: "a", Address: "h:1"}, {Name: "b", Address: "h:2"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "c"} {
		if _, err := two.Get(name); !errors.Is(err, sessions.ErrNoCluster) {
			t.Errorf("cluster %q: %v", name, err)
		}
	}
	_, err = sessions.NewClusters([]sessions.Cluster{{Address: "h:1"}, {Name: "a"}, {Name: "b", Address: "h:1"}, {Name: "b", Address: "h:2"}})
	for _, fault := range []string{"cluster 1 has no name", `"a" must have an address or a launcher`, `"b" is named twice`} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("the faults lack %q: %v", fault, err)
		}
	}
}
