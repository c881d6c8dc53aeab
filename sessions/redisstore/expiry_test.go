package redisstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
)

const (
	keep     = 30 * 24 * time.Hour
	bindings = keep + 24*time.Hour
	owner    = "ann"
	org      = "acme"
)

func newSession(t testing.TB, at time.Time, name string) sessions.Session {
	t.Helper()
	id, err := sessions.NewID(at, strings.NewReader(uuid.NewString()))
	if err != nil {
		t.Fatal(err)
	}
	return sessions.Session{ID: id, Name: name, Owner: owner, Org: org, Cluster: "c", State: sessions.Pending, CreatedAt: at}
}

func create(t testing.TB, s *redisstore.Store, n sessions.Session, request string) sessions.Session {
	t.Helper()
	made, err := s.Create(t.Context(), n, request)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func closeSession(t testing.TB, s *redisstore.Store, id sessions.ID) {
	t.Helper()
	if _, err := s.Transition(t.Context(), id, sessions.CloseAt(time.Now(), "")); err != nil {
		t.Fatal(err)
	}
}

// Every key that doc.go lists, with its expiry, while a session is open and after.
func TestExpiry(t *testing.T) {
	server := miniredis.RunT(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}})
	made := create(t, s, newSession(t, time.Now(), "a"), "request")
	spark := sessions.SparkID(uuid.NewString())
	if err := s.Bind(t.Context(), made.ID, spark); err != nil {
		t.Fatal(err)
	}
	record := "sconce:s:{" + string(made.ID) + "}"
	expiries(t, server, map[string]time.Duration{
		record: 0, record + ":bound": 0, "sconce:b:{" + string(spark) + "}": 0,
		":names": 0, ":ids": 0, ":r:request": 24 * time.Hour, "sconce:g:": 0,
	})
	closeSession(t, s, made.ID)
	expiries(t, server, map[string]time.Duration{
		record: keep, record + ":bound": keep, "sconce:b:{" + string(spark) + "}": bindings,
		":ids": 0, ":r:request": 24 * time.Hour, "sconce:g:": 0,
	})
}

// A close may keep its session for less than others, and never for more.
func TestExpiryOfAClose(t *testing.T) {
	server := miniredis.RunT(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}})
	for asked, want := range map[time.Duration]time.Duration{time.Hour: time.Hour, 0: keep, 2 * keep: keep} {
		made := create(t, s, newSession(t, time.Now(), ""), "")
		spark := sessions.SparkID(uuid.NewString())
		if err := s.Bind(t.Context(), made.ID, spark); err != nil {
			t.Fatal(err)
		}
		step := sessions.CloseAt(time.Now(), "")
		step.Keep = asked
		if _, err := s.Transition(t.Context(), made.ID, step); err != nil {
			t.Fatal(err)
		}
		record := "sconce:s:{" + string(made.ID) + "}"
		for key, left := range map[string]time.Duration{record: want, record + ":bound": want, "sconce:b:{" + string(spark) + "}": bindings} {
			if got := server.TTL(key); got != left {
				t.Errorf("asked for %s: %s expires in %s, want %s", asked, key, got, left)
			}
		}
	}
}

// Closing again does not keep anything for longer, and what is bound too late
// goes when the rest does.
func TestExpiryIsNotPutOff(t *testing.T) {
	server := miniredis.RunT(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}})
	made := create(t, s, newSession(t, time.Now(), "a"), "")
	bound, late, stolen := sessions.SparkID(uuid.NewString()), sessions.SparkID(uuid.NewString()), sessions.SparkID(uuid.NewString())
	for _, spark := range []sessions.SparkID{bound, stolen} {
		if err := s.Bind(t.Context(), made.ID, spark); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Set("sconce:b:{"+string(stolen)+"}", "another session"); err != nil {
		t.Fatal(err)
	}
	closeSession(t, s, made.ID)
	server.FastForward(time.Hour)
	closeSession(t, s, made.ID)
	if err := s.Bind(t.Context(), made.ID, late); !errors.Is(err, sessions.ErrClosed) {
		t.Errorf("bind on a closed session: %v", err)
	}
	for spark, want := range map[sessions.SparkID]time.Duration{bound: bindings - time.Hour, late: bindings, stolen: 0} {
		if got := server.TTL("sconce:b:{" + string(spark) + "}"); got != want {
			t.Errorf("a binding expires in %s, want %s", got, want)
		}
	}
	if got := server.TTL("sconce:s:{" + string(made.ID) + "}"); got != keep-time.Hour {
		t.Errorf("the record expires in %s", got)
	}
}

// expiries compares all keys of the server; want's keys may be a part of a name.
func expiries(t *testing.T, server *miniredis.Miniredis, want map[string]time.Duration) {
	t.Helper()
	for _, key := range server.Keys() {
		known := false
		for part, ttl := range want {
			if key != part && (strings.HasPrefix(part, "sconce:s:") || !strings.Contains(key, part)) {
				continue
			}
			if known = true; strings.HasPrefix(part, ":ids") && strings.HasPrefix(key, "sconce:g:") {
				continue
			}
			if got := server.TTL(key); got != ttl {
				t.Errorf("%s expires in %s, want %s", key, got, ttl)
			}
		}
		if !known {
			t.Errorf("key %s is not known", key)
		}
	}
}

func TestClosedSessionIsForgottenInTheEnd(t *testing.T) {
	server := miniredis.RunT(t)
	now := time.Now()
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}, Now: func() time.Time { return now }})
	made := create(t, s, newSession(t, now, "a"), "")
	spark := sessions.SparkID(uuid.NewString())
	if err := s.Bind(t.Context(), made.ID, spark); err != nil {
		t.Fatal(err)
	}
	closeSession(t, s, made.ID)
	other := create(t, s, newSession(t, now, "b"), "")

	server.FastForward(keep + time.Minute)
	now = now.Add(keep + time.Minute)
	if err := s.Bind(t.Context(), other.ID, spark); !errors.Is(err, sessions.ErrForeignSpark) {
		t.Errorf("with the record gone its Spark session is given away: %v", err)
	}
	page, err := s.List(t.Context(), sessions.Query{Org: org, Owner: owner, Closed: true, Limit: 10})
	if err != nil || len(page.Sessions) != 1 {
		t.Fatalf("listed %+v, %v", page, err)
	}
	if key := indexKey(t, server); len(members(t, server, key)) != 1 {
		t.Errorf("the index still holds the forgotten session: %v", members(t, server, key))
	}
	server.FastForward(25 * time.Hour)
	if err := s.Bind(t.Context(), other.ID, spark); err != nil {
		t.Errorf("the Spark session is never free again: %v", err)
	}
}

func indexKey(t *testing.T, server *miniredis.Miniredis) string {
	t.Helper()
	for _, key := range server.Keys() {
		if strings.HasPrefix(key, "sconce:o:") && strings.HasSuffix(key, ":ids") {
			return key
		}
	}
	t.Fatal("no index")
	return ""
}

func members(t *testing.T, server *miniredis.Miniredis, key string) []string {
	t.Helper()
	m, err := server.ZMembers(key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A create that dies after it took the name, and before the record.
func TestCreateCutShort(t *testing.T) {
	server := miniredis.RunT(t)
	now := time.Now()
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}, Now: func() time.Time { return now }})
	lost := newSession(t, now, "a")
	create(t, s, lost, "request")
	server.Del("sconce:s:{" + string(lost.ID) + "}")

	if _, err := s.Create(t.Context(), newSession(t, now, "a"), ""); !errors.Is(err, sessions.ErrNameTaken) {
		t.Errorf("a create that may be under way lost its name: %v", err)
	}
	if _, err := s.List(t.Context(), sessions.Query{Org: org, Owner: owner, Limit: 1}); err != nil || len(members(t, server, indexKey(t, server))) != 1 {
		t.Errorf("a list took a create that may be under way out of the index: %v", err)
	}
	if again := create(t, s, newSession(t, now, "a"), "request"); again.ID != lost.ID {
		t.Errorf("the same request made session %s, want %s", again.ID, lost.ID)
	}
	server.Del("sconce:s:{" + string(lost.ID) + "}")
	now = now.Add(2 * time.Minute)
	create(t, s, newSession(t, now, "a"), "")
}

// A close that dies after the record is closed.
func TestCloseCutShort(t *testing.T) {
	server := miniredis.RunT(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}})
	made := create(t, s, newSession(t, time.Now(), "a"), "")
	spark := sessions.SparkID(uuid.NewString())
	if err := s.Bind(t.Context(), made.ID, spark); err != nil {
		t.Fatal(err)
	}
	server.HSet("sconce:s:{"+string(made.ID)+"}", "state", "closed")
	closeSession(t, s, made.ID)
	if got := server.TTL("sconce:b:{" + string(spark) + "}"); got != bindings {
		t.Errorf("the binding expires in %s, want %s", got, bindings)
	}
	create(t, s, newSession(t, time.Now(), "a"), "")

	// and one that is never finished does not hold its name for ever
	half := create(t, s, newSession(t, time.Now(), "b"), "")
	server.HSet("sconce:s:{"+string(half.ID)+"}", "state", "closed")
	create(t, s, newSession(t, time.Now(), "b"), "")
}

func TestRecordOfNewerVersionIsNotRead(t *testing.T) {
	server := miniredis.RunT(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}})
	made := create(t, s, newSession(t, time.Now(), "a"), "")
	for field, value := range map[string]string{"v": "2", "state": "asleep", "generation": "x"} {
		key := "sconce:s:{" + string(made.ID) + "}"
		before := server.HGet(key, field)
		server.HSet(key, field, value)
		if found, err := s.Get(t.Context(), made.ID); err != nil || len(found) != 0 {
			t.Errorf("%s %s: got %+v, %v", field, value, found, err)
		}
		server.HSet(key, field, before)
	}
	if found, err := s.Get(t.Context(), made.ID); err != nil || len(found) != 1 {
		t.Errorf("the mended record is not read: %+v, %v", found, err)
	}
}
