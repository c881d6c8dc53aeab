package sessions_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// journalRig is a journal over a registry in memory, with one active session.
type journalRig struct {
	*sessions.Journal
	store   *storetest.Memory
	session sessions.Session
	spark   sessions.SparkID
}

func newJournalRig(t *testing.T, secrets ...string) *journalRig {
	t.Helper()
	r := &journalRig{store: storetest.NewMemory(), spark: sessions.SparkID(uuid.NewString())}
	id, err := sessions.NewID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.session = sessions.Session{ID: id, Owner: "ann", Org: "o", Cluster: "c", State: sessions.Active, Generation: 1, Revision: 1}
	r.store.Put(r.session)
	if len(secrets) == 0 {
		secrets = []string{"one"}
	}
	r.Journal = newJournal(t, r.store, secrets...)
	if err := r.store.Bind(t.Context(), id, r.spark); err != nil {
		t.Fatal(err)
	}
	return r
}

func newJournal(t *testing.T, store *storetest.Memory, secrets ...string) *sessions.Journal {
	t.Helper()
	keys := make([][]byte, len(secrets))
	for i, s := range secrets {
		keys[i] = bytes.Repeat([]byte{s[0]}, 32)
	}
	k, err := sessions.NewJournalKeys(keys...)
	if err != nil {
		t.Fatal(err)
	}
	j, err := sessions.NewJournal(sessions.JournalConfig{Store: store, Carried: store, Keys: k})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// begin begins an act and has it settled; how is "commit", "abort" or "".
func (r *journalRig) begin(t *testing.T, e *sessions.Entry, how string) sessions.Ticket {
	t.Helper()
	ticket, err := r.Begin(t.Context(), r.session.ID, r.spark, e)
	if err != nil {
		t.Fatal(err)
	}
	switch how {
	case "commit":
		r.Settle(ticket, true)
	case "abort":
		r.Settle(ticket, false)
	}
	r.settled()
	return ticket
}

// settled has all that waits settled: at its end, Run does what is left.
func (r *journalRig) settled() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.Run(ctx)
}

func (r *journalRig) entries(t *testing.T) (list []sessions.SealedEntry) {
	t.Helper()
	all, err := r.store.Entries(t.Context(), r.session.ID)
	if err != nil {
		t.Fatal(err)
	}
	return all[r.spark]
}

func TestJournalIsWrittenAhead(t *testing.T) {
	r := newJournalRig(t)
	ticket := r.begin(t, &sessions.Entry{Method: "Config", What: "x", Message: []byte("m")}, "")
	if got := r.entries(t); len(got) != 1 || got[0].Committed {
		t.Errorf("begun: %v", got)
	}
	r.Settle(ticket, true)
	r.settled()
	if got := r.entries(t); len(got) != 1 || !got[0].Committed {
		t.Errorf("committed: %v", got)
	}
	r.begin(t, &sessions.Entry{Method: "Config", What: "y"}, "abort")
	if got := r.entries(t); len(got) != 1 {
		t.Errorf("aborted: %v", got)
	}
	r.Forget(r.session.ID, r.spark)
	r.settled()
	if got := r.entries(t); len(got) != 0 {
		t.Errorf("forgotten: %v", got)
	}
}

// An act that cannot be recorded must not go on.
func TestJournalWithoutRegistry(t *testing.T) {
	r := newJournalRig(t)
	r.store.Fail(sessions.ErrUnavailable)
	if _, err := r.Begin(t.Context(), r.session.ID, r.spark, &sessions.Entry{Method: "Config"}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

// With the registry away, what was done waits until it is back.
func TestJournalSettlesLater(t *testing.T) {
	r := newJournalRig(t)
	ticket := r.begin(t, &sessions.Entry{Method: "Config"}, "")
	r.store.Fail(sessions.ErrUnavailable)
	r.Settle(ticket, true)
	r.settled()
	r.store.Fail(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	for !r.entries(t)[0].Committed && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if !r.entries(t)[0].Committed {
		t.Error("never committed")
	}
}

// What is kept says nothing to who has no key.
func TestJournalIsEncrypted(t *testing.T) {
	r := newJournalRig(t)
	const secret = "S3CR3T"
	r.begin(t, &sessions.Entry{
		Method: "ExecutePlan", What: secret, Replaces: secret, Message: []byte(secret),
	}, "commit")
	r.begin(t, &sessions.Entry{Method: "AddArtifacts", Artifacts: []sessions.Artifact{{Name: secret, Data: []byte(secret)}}}, "commit")
	for _, e := range r.entries(t) {
		body, err := r.store.EntryBody(t.Context(), r.session.ID, r.spark, e.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body)+e.Slot, secret) {
			t.Errorf("entry %d is kept in the clear", e.Seq)
		}
	}
}

// An entry opens in its own place only, and with the key that it was written with.
func TestJournalEntriesCannotBeMoved(t *testing.T) {
	for _, c := range []struct {
		name string
		move func(*journalRig, *sessions.SealedEntry)
		keys []string
		want string // of Loss.Why; "" = it opens
	}{
		{name: "where it was"},
		{name: "another number", move: func(r *journalRig, e *sessions.SealedEntry) { e.Seq += 7 }, want: "cannot be opened"},
		{name: "another Spark session", move: func(r *journalRig, e *sessions.SealedEntry) { r.spark = sessions.SparkID(uuid.NewString()) }, want: "cannot be opened"},
		{name: "a flipped bit", move: func(r *journalRig, e *sessions.SealedEntry) { e.Body[len(e.Body)-1] ^= 1 }, want: "cannot be opened"},
		{name: "cut short", move: func(r *journalRig, e *sessions.SealedEntry) { e.Body = e.Body[:3] }, want: "cannot be opened"},
		{name: "a new key, the old one still known", keys: []string{"two", "one"}},
		{name: "a new key alone", keys: []string{"two"}, want: "cannot be opened"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newJournalRig(t)
			ticket := r.begin(t, &sessions.Entry{Method: "Config", What: "x", Message: configSet("k", "v")}, "commit")
			sealed := r.entries(t)[0]
			var err error
			if sealed.Body, err = r.store.EntryBody(t.Context(), r.session.ID, r.spark, sealed.Seq); err != nil {
				t.Fatal(err)
			}
			if c.move != nil {
				r.Settle(ticket, false)
				r.settled()
				c.move(r, &sealed)
				_ = r.store.Bind(t.Context(), r.session.ID, r.spark)
				if err := r.store.AddEntry(t.Context(), r.session.ID, r.spark, sealed); err != nil {
					t.Fatal(err)
				}
			}
			if c.keys != nil {
				r.Journal = newJournal(t, r.store, c.keys...)
			}
			got := replayOn(t, r, newFakeSpark(t))[r.spark]
			if c.want == "" && (len(got.Lost) != 0 || got.Entries != 1) {
				t.Errorf("replayed %d, lost %v", got.Entries, got.Lost)
			}
			if c.want != "" && (len(got.Lost) != 1 || !got.Lost[0].Notable || !strings.Contains(got.Lost[0].Why, c.want)) {
				t.Errorf("lost %v, want %q", got.Lost, c.want)
			}
		})
	}
}

func TestJournalOverItsCap(t *testing.T) {
	r := newJournalRig(t)
	r.begin(t, &sessions.Entry{Method: "ExecutePlan", What: "temporary view `x`", Message: make([]byte, storetest.MaxJournal)}, "commit")
	r.begin(t, &sessions.Entry{Method: "AddArtifacts", What: "artifact a.jar", Artifacts: []sessions.Artifact{{Name: "jars/a.jar", Data: make([]byte, storetest.MaxBlobs)}}}, "commit")
	got := replayOn(t, r, newFakeSpark(t))[r.spark]
	var what []string
	for _, l := range got.Lost {
		if !l.Notable || !strings.Contains(l.Why, "cap") {
			t.Errorf("lost %+v", l)
		}
		what = append(what, l.What)
	}
	if want := []string{"temporary view `x`", "artifact a.jar"}; !slices.Equal(what, want) {
		t.Errorf("lost %v, want %v", what, want)
	}
}

// Who puts keys into a file later goes on reading what was written before, and writes by
// the file's first.
func TestJournalKeysBesideOlder(t *testing.T) {
	old, path := bytes.Repeat([]byte("o"), 32), filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("n"), 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := sessions.LoadJournalKeys(path, old)
	if err != nil {
		t.Fatal(err)
	}
	r := newJournalRig(t, "o")
	r.begin(t, statement("before", "CREATE TEMP VIEW a AS SELECT 1"), "commit")
	r.Keys = keys
	r.begin(t, statement("after", "CREATE TEMP VIEW b AS SELECT 1"), "commit")
	lost := func(j *sessions.Journal) (what []string) {
		done, err := (&sessions.Replayer{Journal: j, Store: r.store}).Replay(t.Context(), newFakeSpark(t).cluster(), r.session)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range done[r.spark].Lost {
			what = append(what, l.What)
		}
		return what
	}
	for _, c := range []struct {
		name string
		j    *sessions.Journal
		lost int
	}{{"both", r.Journal, 0}, {"the older", newJournal(t, r.store, "o"), 1}, {"the file's", newJournal(t, r.store, "n"), 1}} {
		if got := lost(c.j); len(got) != c.lost {
			t.Errorf("by %s what is lost is %v, want %d", c.name, got, c.lost)
		}
	}
	if _, err := sessions.LoadJournalKeys(path, []byte("short")); err == nil {
		t.Error("a key that is too short was taken")
	}
}

func TestLoadJournalKeys(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for text, ok := range map[string]bool{
		"# a comment\n\n" + good + "\n": true, good + "\n" + good: true,
		"": false, "# only a comment": false, "c2hvcnQ=": false, "no base64!": false,
	} {
		path := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sessions.LoadJournalKeys(path); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := sessions.LoadJournalKeys("/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
