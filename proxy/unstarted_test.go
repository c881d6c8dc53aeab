package proxy

import (
	"strconv"
	"testing"
	"time"
)

func TestUnstarted(t *testing.T) {
	now := time.Unix(0, 0)
	u := newUnstarted(func() time.Time { return now })
	take := func(op string) bool {
		t.Helper()
		return u.Take("s-x", []byte(op))
	}
	if take("a") {
		t.Error("knows what it was never told")
	}
	u.Remember("s-x", []byte("a"))
	if u.Take("s-y", []byte("a")) {
		t.Error("told another session")
	}
	if !take("a") || take("a") {
		t.Error("must be known exactly once")
	}
	u.Remember("s-x", []byte("b"))
	now = now.Add(unstartedFor + 1)
	if take("b") {
		t.Error("remembers for too long")
	}
	u.Remember("s-x", nil)
	if u.Take("s-x", nil) {
		t.Error("remembers an operation without a name")
	}
}

func TestUnstartedIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	u := newUnstarted(func() time.Time { return now })
	for i := range 2 * unstartedMax {
		u.Remember("s", []byte(strconv.Itoa(i)))
	}
	if len(u.at) > unstartedMax || len(u.old) > unstartedMax {
		t.Errorf("%d remembered, %d in order", len(u.at), len(u.old))
	}
	if u.Take("s", []byte("0")) || !u.Take("s", []byte(strconv.Itoa(2*unstartedMax-1))) {
		t.Error("forgot the newest and not the oldest")
	}
	now = now.Add(2 * unstartedFor)
	u.Remember("s", []byte("last"))
	if len(u.at) != 1 || len(u.old) != 1 {
		t.Errorf("%d remembered, %d in order", len(u.at), len(u.old))
	}
}

func TestUnstartedCostsNothingWhileEmpty(t *testing.T) {
	u, op := newUnstarted(time.Now), []byte(operationID)
	if n := testing.AllocsPerRun(100, func() { u.Take("s", op) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
