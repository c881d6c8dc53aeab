package proxy

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions"
)

var (
	ann = &auth.Identity{Org: "acme", Subject: "ann"}
	bob = &auth.Identity{Org: "acme", Subject: "bob"}
)

func TestUnstarted(t *testing.T) {
	now := time.Unix(0, 0)
	u := newUnstarted(func() time.Time { return now })
	take := func(op string) bool {
		t.Helper()
		return u.Take(ann, "s-x", []byte(op))
	}
	if take("a") {
		t.Error("knows what it was never told")
	}
	u.Remember(ann, "s-x", []byte("a"))
	if u.Take(ann, "s-y", []byte("a")) {
		t.Error("told another session")
	}
	if u.Take(bob, "s-x", []byte("a")) {
		t.Error("told another owner")
	}
	if !take("a") || take("a") {
		t.Error("must be known exactly once")
	}
	u.Remember(nil, "s-x", []byte("a"))
	if !take("a") || take("a") {
		t.Error("of who was not known yet, it must be known exactly once")
	}
	u.Remember(ann, "s-x", []byte("b"))
	now = now.Add(unstartedFor + 1)
	if take("b") {
		t.Error("remembers for too long")
	}
	u.Remember(ann, "s-x", nil)
	if u.Take(ann, "s-x", nil) {
		t.Error("remembers an operation without a name")
	}
	u.Remember(ann, "s-x", []byte("c"))
	now = now.Add(unstartedFor - 1)
	u.Remember(ann, "s-x", []byte("c"))
	now = now.Add(2)
	if !take("c") {
		t.Error("forgot what it was told once more")
	}
	if u.n != 0 || len(u.of) != 0 || u.any.Load() {
		t.Errorf("%d are left, of %d owners", u.n, len(u.of))
	}
}

// However many one session, one owner, or those of whom it is not known who they are have,
// what others have stays.
func TestUnstartedIsFair(t *testing.T) {
	for _, c := range []struct {
		name   string
		by     *auth.Identity
		others func(i int) sessions.ID
		most   int
	}{
		{"one session", ann, func(int) sessions.ID { return "s-other" }, unstartedOfSession},
		{"sessions of one owner", bob, func(i int) sessions.ID { return sessions.ID(fmt.Sprint("s-", i%100)) }, unstartedOfOwner},
		{"who is not known, by the same session", nil, func(int) sessions.ID { return "s-mine" }, unstartedOfSession},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUnstarted(time.Now)
			u.Remember(ann, "s-mine", []byte("mine"))
			for i := range 20_000 {
				u.Remember(c.by, c.others(i), []byte(strconv.Itoa(i)))
			}
			if u.n > c.most+1 {
				t.Errorf("%d are remembered, want %d", u.n, c.most+1)
			}
			if u.Take(c.by, c.others(0), []byte("0")) || !u.Take(c.by, c.others(19_999), []byte("19999")) {
				t.Error("forgot the newest and not the oldest")
			}
			if !u.Take(ann, "s-mine", []byte("mine")) {
				t.Error("forgot that of another session")
			}
		})
	}
}

// Past the bound of all, who has most makes room.
func TestUnstartedIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	u := newUnstarted(func() time.Time { return now })
	u.Remember(ann, "s-mine", []byte("mine"))
	const owners = unstartedMax/unstartedOfOwner + 5
	for o := range owners {
		by := &auth.Identity{Org: "acme", Subject: strconv.Itoa(o)}
		for i := range unstartedOfOwner {
			u.Remember(by, sessions.ID(fmt.Sprint("s-", o, "-", i%10)), []byte(strconv.Itoa(i)))
		}
	}
	kept, listed := 0, 0
	for _, o := range u.of {
		kept, listed = kept+len(o.at), listed+len(o.old)
	}
	if u.n != unstartedMax || kept != u.n || listed != u.n {
		t.Errorf("%d remembered, %d kept, %d in order", u.n, kept, listed)
	}
	if !u.Take(ann, "s-mine", []byte("mine")) {
		t.Error("forgot that of who had one")
	}
	now = now.Add(2 * unstartedFor)
	u.Remember(ann, "s-mine", []byte("mine"))
	u.Remember(ann, "s-mine", []byte("last"))
	if u.n != 2 || len(u.of) != 1 {
		t.Errorf("later %d are remembered, of %d owners", u.n, len(u.of))
	}
}

func TestUnstartedCostsNothingWhileEmpty(t *testing.T) {
	u, op := newUnstarted(time.Now), []byte(operationID)
	if n := testing.AllocsPerRun(100, func() { u.Take(ann, "s", op) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
