package redisstore_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// While replicas are replaced one by one, two versions of Sconce share one Redis, and
// what the older one wrote is read for as long as sessions live. So each layout that
// was ever released stays here as a list of the commands that make it,
// testdata/layout-N.txt, and this version has to read and go on with every one. What
// replicas share besides sessions, and what they say on the channel, is in
// testdata/shared-N.txt likewise.
//
// Whoever changes what is written records the next file and leaves the others alone;
// also where it is the form of a value alone, which no test sees:
//
//	go test ./sessions/redisstore -run TestLayoutIsRecorded -layout.record testdata/layout-6.txt
var recordLayout = flag.String("layout.record", "", "write the present layout to this file, layout-N.txt or shared-N.txt")

// newestLayout is what this version writes. 2: steps have names. 3: the good tokens of owners
// and organisations. 4: the second behind the name of a step. 5: what the journals of a
// session are together, and when it is looked at for want of use.
const newestLayout = "testdata/layout-5.txt"

// The time of the story, and when what must not end in it ends.
var (
	layoutNow  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	layoutEver = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

const (
	layoutSpark  = sessions.SparkID("11111111-2222-3333-4444-555555555555")
	layoutSpark2 = sessions.SparkID("66666666-7777-8888-9999-000000000000")
)

// layoutID is the id of the n-th session of the story.
func layoutID(n byte) sessions.ID {
	id, err := sessions.NewID(layoutNow.Add(time.Duration(n)*time.Second), bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		panic(err) // a reader in memory
	}
	return id
}

// teller writes the story: something of everything that lasts.
type teller struct {
	*redisstore.Store
	t   *testing.T
	ctx context.Context //nolint:containedctx // of one test
}

func (w *teller) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *teller) create(n byte, name, request string, more func(*sessions.Session)) sessions.ID {
	w.t.Helper()
	s := sessions.Session{
		ID: layoutID(n), Name: name, Owner: "ann", Org: "acme", Cluster: "spark", State: sessions.Pending,
		CreatedAt: layoutNow.Add(time.Duration(n) * time.Second),
	}
	if more != nil {
		more(&s)
	}
	_, err := w.Create(w.ctx, s, request)
	w.ok(err)
	return s.ID
}

func (w *teller) step(id sessions.ID, t sessions.Transition) {
	w.t.Helper()
	t.At = layoutNow.Add(time.Hour)
	_, err := w.Transition(w.ctx, id, t)
	w.ok(err)
}

func (w *teller) tell() {
	w.t.Helper()
	mine := w.create(1, "notebook", "request-1", func(s *sessions.Session) {
		s.Catalog, s.Database, s.IdleTimeout, s.MaxAge = "lake", "gold", 45*time.Minute, 24*time.Hour
		s.Conf, s.Labels = `{"spark.sql.shuffle.partitions":"8"}`, `{"team":"risk"}`
	})
	engine := sessions.Instance{
		ID: "engine-1", Home: "a-machine", Address: "127.0.0.1:15002", Token: "engine-token", Version: "4.3.0", UI: "http://127.0.0.1:4040", StartedAt: layoutNow,
	}
	w.step(mine, sessions.Transition{From: sessions.Pending, To: sessions.Active, Engine: &engine})
	w.tokens(mine)
	w.ok(w.Bind(w.ctx, mine, layoutSpark))
	_, err := w.Touch(w.ctx, []sessions.Use{{ID: mine, Running: []string{"an-operation"}}})
	w.ok(err)
	w.ok(w.Schedule(w.ctx, mine, layoutEver))
	w.ok(w.SetDue(w.ctx, mine, layoutEver))
	w.ok(w.SetStage(w.ctx, mine, "waiting", "it did not start"))
	w.journal(mine)
	w.engine(mine, engine)

	old := w.create(2, "old", "", nil)
	w.step(old, sessions.Transition{From: sessions.Pending, To: sessions.Active})
	w.ok(w.Bind(w.ctx, old, layoutSpark2))
	w.step(old, sessions.CloseAt(layoutNow, "closed by ann"))

	asleep := w.create(3, "", "", nil)
	w.step(asleep, sessions.Transition{From: sessions.Pending, To: sessions.Active})
	w.step(asleep, sessions.Transition{From: sessions.Active, Generation: w.generation(asleep), To: sessions.Idle, Reason: "unused"})

	for i, name := range []string{"ci", "admin"} {
		k := sessions.Key{
			ID: "key-" + name, Name: name, Subject: "svc-" + name, Org: "acme", Admin: name == "admin", CreatedBy: "root",
			CreatedAt: layoutNow.Add(time.Duration(i) * time.Second), ExpiresAt: layoutEver, Hash: [32]byte{byte(i + 1)},
		}
		w.ok(w.AddKey(w.ctx, k))
	}
	w.ok(w.UseKey(w.ctx, "key-ci", layoutNow.Add(time.Minute)))
	_, err = w.RevokeKey(w.ctx, "key-admin", layoutNow.Add(time.Minute))
	w.ok(err)
}

func (w *teller) generation(id sessions.ID) uint64 {
	w.t.Helper()
	got, err := w.Get(w.ctx, id)
	w.ok(err)
	return got[0].Generation
}

func (w *teller) tokens(id sessions.ID) {
	w.t.Helper()
	for i, name := range []string{"laptop", "a name with spaces"} {
		t := sessions.Token{ID: fmt.Sprintf("token-%d", i), Name: name, CreatedAt: layoutNow, ExpiresAt: layoutEver}
		w.ok(w.AddToken(w.ctx, sessions.Session{ID: id, Owner: "ann", Org: "acme"}, t, layoutNow))
	}
	w.ok(w.TouchTokens(w.ctx, []sessions.TokenUse{{Session: id, Token: "token-0", At: layoutNow.Add(time.Minute)}}))
	_, err := w.RevokeTokens(w.ctx, id, []string{"token-1"}, layoutNow)
	w.ok(err)
}

func (w *teller) journal(id sessions.ID) {
	w.t.Helper()
	for _, e := range []struct{ slot, body, how string }{
		{"", "first", "commit"}, {"view", "second", "commit"}, {"view", "third", "commit"}, {"", "begun", ""},
	} {
		seq, err := w.NextEntry(w.ctx, id, layoutSpark)
		w.ok(err)
		w.ok(w.AddEntry(w.ctx, id, layoutSpark, sessions.SealedEntry{Seq: seq, Slot: e.slot, Body: []byte(e.body)}))
		if e.how != "" {
			w.ok(w.SettleEntry(w.ctx, id, layoutSpark, seq, true))
		}
	}
	w.ok(w.PutBlob(w.ctx, id, "jar", []byte("bytes\x00of a jar")))
	w.ok(w.SetCarried(w.ctx, id, w.generation(id), map[sessions.SparkID]sessions.Carried{
		layoutSpark: {ServerID: "the-engine's-name", Replayed: 2, Notable: true, Lost: []byte("sealed\x00")},
	}))
	_, err := w.TakeLoss(w.ctx, id, layoutSpark, w.generation(id))
	w.ok(err)
}

func (w *teller) engine(id sessions.ID, in sessions.Instance) {
	w.t.Helper()
	key := sessions.EngineKey("session:" + string(id))
	_, err := w.LeaseEngine(w.ctx, key, "me", time.Minute)
	w.ok(err)
	w.ok(w.PutEngine(w.ctx, sessions.EngineRecord{Key: key, Cluster: "spark", Instance: in, Members: map[sessions.ID]uint64{id: 1}}, "me"))
	w.ok(w.UnleaseEngine(w.ctx, key, "me"))
}

// view is all that can be read of the story.
func (w *teller) view() string {
	w.t.Helper()
	var b strings.Builder
	page, err := w.List(w.ctx, sessions.Query{Org: "acme", Owner: "ann", Closed: true, Limit: 100})
	w.ok(err)
	for _, s := range page.Sessions {
		used := s.UsedAt.IsZero()
		s.UsedAt, s.StageAt = time.Time{}, time.Time{} // by the clock of Redis
		engine := s.Engine
		s.Engine = nil
		fmt.Fprintf(&b, "session %+v\n  unused %v\n", s, used)
		if engine != nil {
			fmt.Fprintf(&b, "  engine %+v\n", *engine)
		}
		w.viewOf(&b, s)
	}
	engines, err := w.Engines(w.ctx)
	w.ok(err)
	fmt.Fprintf(&b, "engines %+v\n", engines)
	keys, err := w.Keys(w.ctx, "acme")
	w.ok(err)
	for _, k := range keys {
		fmt.Fprintf(&b, "key %+v\n", k)
	}
	due, err := w.Scheduled(w.ctx, layoutEver, 10)
	w.ok(err)
	fmt.Fprintf(&b, "scheduled %v\n", due)
	return b.String()
}

func (w *teller) viewOf(b *strings.Builder, s sessions.Session) {
	w.t.Helper()
	bound, err := w.Bound(w.ctx, s.ID)
	w.ok(err)
	tokens, err := w.Tokens(w.ctx, s.ID)
	w.ok(err)
	slices.SortFunc(tokens, func(x, y sessions.Token) int { return strings.Compare(x.ID, y.ID) })
	carried, err := w.Carried(w.ctx, s.ID, s.Generation)
	w.ok(err)
	fmt.Fprintf(b, "  bound %v\n  tokens %+v\n  carried %+v\n", bound, tokens, carried)
	entries, err := w.Entries(w.ctx, s.ID)
	w.ok(err)
	for _, e := range entries[layoutSpark] {
		body, err := w.EntryBody(w.ctx, s.ID, layoutSpark, e.Seq)
		w.ok(err)
		fmt.Fprintf(b, "  entry %d %q %v %q\n", e.Seq, e.Slot, e.Committed, body)
	}
	if blob, err := w.Blob(w.ctx, s.ID, "jar"); err == nil {
		fmt.Fprintf(b, "  blob %q\n", blob)
	}
}

// tellerOn is a teller on a Redis of its own.
func tellerOn(t *testing.T) (*teller, *redis.Client) {
	t.Helper()
	server := storetest.StartRedis(t)
	raw := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { raw.Close() })
	store := open(t, redisstore.Config{Addresses: []string{server.Addr}, Now: func() time.Time { return layoutNow.Add(2 * time.Hour) }})
	return &teller{Store: store, t: t, ctx: t.Context()}, raw
}

// Every layout that was released is read as what it was when it was written.
func TestOldLayoutsAreRead(t *testing.T) {
	t.Parallel()
	written, _ := tellerOn(t)
	written.tell()
	want := written.view()
	for _, file := range recorded(t, newestLayout) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			w, raw := tellerOn(t)
			load(t, raw, file)
			if got := w.view(); got != want {
				t.Errorf("%s is read as\n%s\nwant\n%s", file, got, want)
			}
			w.goesOn()
		})
	}
}

// goesOn does with an old layout what a replica would do next.
func (w *teller) goesOn() {
	w.t.Helper()
	mine := layoutID(1)
	again, err := w.Create(w.ctx, sessions.Session{
		ID: layoutID(9), Name: "other", Owner: "ann", Org: "acme", Cluster: "spark", State: sessions.Pending, CreatedAt: layoutNow,
	}, "request-1")
	if err != nil || again.ID != mine {
		w.t.Errorf("a create that came before made %s, %v", again.ID, err)
	}
	if err := w.Bind(w.ctx, mine, layoutSpark2); err == nil {
		w.t.Error("a Spark session of another session was bound")
	}
	if first, err := w.TakeLoss(w.ctx, mine, layoutSpark, w.generation(mine)); err != nil || first {
		w.t.Errorf("a loss that was told is told again: %v", err)
	}
	if revoked, err := w.RevokeTokens(w.ctx, mine, nil, layoutNow); err != nil || len(revoked) != 1 {
		w.t.Errorf("revoked %v, %v", revoked, err)
	}
	if seq, err := w.NextEntry(w.ctx, mine, layoutSpark); err != nil || seq != 5 {
		w.t.Errorf("the next entry is %d, %v", seq, err)
	}
	w.step(layoutID(3), sessions.Transition{From: sessions.Idle, Generation: w.generation(layoutID(3)), To: sessions.Active})
	w.step(mine, sessions.CloseAt(layoutNow, "closed"))
	if entries, err := w.Entries(w.ctx, mine); err != nil || len(entries) != 0 {
		w.t.Errorf("the journal of a closed session: %v, %v", entries, err)
	}
	if _, err := w.Create(w.ctx, sessions.Session{
		ID: layoutID(8), Name: "notebook", Owner: "ann", Org: "acme", Cluster: "spark", State: sessions.Pending, CreatedAt: layoutNow,
	}, ""); err != nil {
		w.t.Errorf("the name of a closed session is not free: %v", err)
	}
}

// What this version writes has the keys, types and fields that are recorded: a change
// of the layout is a decision, with a file of its own.
func TestLayoutIsRecorded(t *testing.T) {
	t.Parallel()
	for newest, tell := range map[string]func(*teller){newestLayout: (*teller).tell, newestShared: (*teller).tellShared} {
		w, raw := tellerOn(t)
		said := w.overhear(raw)
		tell(w)
		now := dump(t, raw)
		if newest == newestShared {
			now = append(now, said()...)
		}
		if *recordLayout != "" {
			if kindOfFile(*recordLayout) != kindOfFile(newest) {
				continue
			}
			if err := os.WriteFile(*recordLayout, []byte(strings.Join(now, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, want := shape(now), shape(lines(t, newest))
		for _, one := range got {
			if !slices.Contains(want, one) {
				t.Errorf("written, and not in %s: %s", newest, one)
			}
		}
		for _, one := range want {
			if !slices.Contains(got, one) {
				t.Errorf("in %s, and not written: %s", newest, one)
			}
		}
	}
}

// A record of a later layout than this version knows is not read as if it were known.
func TestLaterRecordsAreNotRead(t *testing.T) {
	t.Parallel()
	w, raw := tellerOn(t)
	w.tell()
	w.ok(raw.HSet(w.ctx, "sconce:s:{"+string(layoutID(1))+"}", "v", 2).Err())
	w.ok(raw.HSet(w.ctx, "sconce:k:{key-ci}", "v", 2).Err())
	if got, err := w.Get(w.ctx, layoutID(1), layoutID(3)); err != nil || len(got) != 1 || got[0].ID != layoutID(3) {
		t.Errorf("read %+v, %v", got, err)
	}
	if _, err := w.Key(w.ctx, "key-ci"); err == nil || !strings.Contains(err.Error(), "upgrade it") {
		t.Errorf("an API key of version 2: %v", err)
	}
}
