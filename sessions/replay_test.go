package sessions_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/sessions"
)

// fakeSpark is a new engine that writes down what it is told, one word an act.
type fakeSpark struct {
	*proxytest.Spark
	mu     sync.Mutex
	told   []string
	lines  map[string][]string // told, by Spark session: of a clone, all that it is made of
	cloned map[string]string   // the clone of a Spark session
	refuse string              // acts with this word are refused
	with   error
	slow   string // acts with this word are never answered
	dies   bool   // nor is anything behind one of those
	dead   bool   // it was told one
}

const newEngine = "00000000-0000-4000-8000-00000000000b"

func newFakeSpark(t *testing.T) *fakeSpark {
	t.Helper()
	f := &fakeSpark{
		Spark: proxytest.StartSpark(t, proxytest.SparkConfig{Token: "secret"}),
		with:  status.Error(codes.Internal, "[NO] it may not\nstack trace"),
		lines: map[string][]string{}, cloned: map[string]string{},
	}
	f.Script("", func(x *proxytest.Exchange) error {
		var messages [][]byte
		for {
			m, err := x.Recv()
			if err != nil {
				break
			}
			messages = append(messages, m)
		}
		if len(messages) == 0 {
			return status.Error(codes.Canceled, "the caller is gone")
		}
		word, err := tell(x.Method, messages)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if f.isSlow(word) {
			<-x.Context().Done()
			return x.Context().Err()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, word)
		f.note(word, messages[0])
		if f.refuse != "" && strings.Contains(word, f.refuse) {
			return f.with
		}
		switch x.Method {
		case "Config":
			return x.Send(proxytest.Text(4, newEngine))
		case "AddArtifacts":
			answer, err := proto.Marshal(&connect.AddArtifactsResponse{
				Artifacts: []*connect.AddArtifactsResponse_ArtifactSummary{{Name: "a", IsCrcSuccessful: true}},
			})
			if err != nil {
				return err
			}
			return x.Send(answer)
		}
		return x.Send(proxytest.Text(15, newEngine))
	})
	return f
}

func (f *fakeSpark) isSlow(word string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	slow := f.slow != "" && strings.Contains(word, f.slow)
	f.dead = f.dead || slow && f.dies
	return slow || f.dead
}

// note adds to the line of a Spark session. That of one that is cloned goes on as its
// clone's.
func (f *fakeSpark) note(word string, message []byte) {
	id := textField(message, 1)
	if to, ok := f.cloned[id]; ok {
		id = to
	}
	f.lines[id] = append(f.lines[id], word)
	if word == "clone" {
		to := textField(message, 4)
		f.cloned[id], f.lines[to] = to, f.lines[id]
		delete(f.lines, id)
	}
}

// textField is the last field of that number in a message.
func textField(message []byte, number protowire.Number) (text string) {
	for len(message) > 0 {
		n, kind, tag := protowire.ConsumeTag(message)
		size := protowire.ConsumeFieldValue(n, kind, message[tag:])
		if n == number {
			value, _ := protowire.ConsumeBytes(message[tag:])
			text = string(value)
		}
		message = message[tag+size:]
	}
	return text
}

// line is what the engine was told in a Spark session.
func (f *fakeSpark) line(spark sessions.SparkID) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lines[string(spark)]
}

// tell words what an engine was told, and holds it against what must not be in it.
func tell(method string, messages [][]byte) (string, error) {
	switch method {
	case "CloneSession":
		return "clone", nil
	case "ReleaseSession":
		return "release", nil
	case "Config":
		r := &connect.ConfigRequest{}
		if err := proto.Unmarshal(messages[0], r); err != nil {
			return "", err
		}
		if r.ClientObservedServerSideSessionId != nil || r.GetUserContext().GetUserId() != "ann" || r.GetSessionId() == oldSession {
			return "", fmt.Errorf("config as %v", r)
		}
		word := "hello"
		for _, p := range r.GetOperation().GetSet().GetPairs() {
			word = "set " + p.GetKey() + "=" + p.GetValue()
		}
		return word, nil
	case "AddArtifacts":
		word := "artifact"
		for _, m := range messages {
			r := &connect.AddArtifactsRequest{}
			if err := proto.Unmarshal(m, r); err != nil {
				return "", err
			}
			for _, a := range r.GetBatch().GetArtifacts() {
				word += fmt.Sprintf(" %s:%d", a.GetName(), len(a.GetData().GetData()))
			}
			if b := r.GetBeginChunk(); b != nil {
				word += fmt.Sprintf(" %s:%d/%d", b.GetName(), b.GetTotalBytes(), b.GetNumChunks())
			}
		}
		return word, nil
	}
	r := &connect.ExecutePlanRequest{}
	if err := proto.Unmarshal(messages[0], r); err != nil {
		return "", err
	}
	if r.ClientObservedServerSideSessionId != nil || r.GetUserContext().GetUserId() != "ann" || len(r.GetRequestOptions()) != 0 ||
		r.GetOperationId() == oldOperation || r.GetSessionId() == oldSession {
		return "", fmt.Errorf("plan as %v", r)
	}
	if c := r.GetPlan().GetRoot().GetCatalog(); c != nil {
		switch {
		case c.GetDropTempView() != nil:
			return "drop " + c.GetDropTempView().GetViewName(), nil
		case c.GetDropGlobalTempView() != nil:
			return "drop global " + c.GetDropGlobalTempView().GetViewName(), nil
		case c.GetSetCurrentCatalog() != nil:
			return "catalog " + c.GetSetCurrentCatalog().GetCatalogName(), nil
		}
		return "database " + c.GetSetCurrentDatabase().GetDbName(), nil
	}
	return r.GetPlan().GetCommand().GetSqlCommand().GetSql(), nil
}

const oldOperation = "00000000-0000-4000-8000-0000000000aa"

// oldSession is the Spark session in which acts were first done: for a clone, the one
// that it is a clone of.
const oldSession = "s"

// statement is an act by SQL, as a client sent it to the first engine.
func statement(what, sql string) *sessions.Entry {
	message, err := proto.Marshal(&connect.ExecutePlanRequest{
		SessionId: oldSession, UserContext: &connect.UserContext{UserId: "somebody", UserName: "Ann"},
		Plan: &connect.Plan{OpType: &connect.Plan_Command{Command: &connect.Command{CommandType: &connect.Command_SqlCommand{
			SqlCommand: &connect.SqlCommand{Sql: sql},
		}}}},
		RequestOptions: []*connect.ExecutePlanRequest_RequestOption{{RequestOption: &connect.ExecutePlanRequest_RequestOption_ReattachOptions{
			ReattachOptions: &connect.ReattachOptions{Reattachable: true},
		}}},
		OperationId:                       proto.String(oldOperation),
		ClientObservedServerSideSessionId: proto.String("old"),
	})
	if err != nil {
		panic(err)
	}
	return &sessions.Entry{Method: "ExecutePlan", What: what, Message: message}
}

func configSet(key, value string) []byte {
	message, err := proto.Marshal(&connect.ConfigRequest{
		SessionId: oldSession, ClientObservedServerSideSessionId: proto.String("old"),
		Operation: &connect.ConfigRequest_Operation{OpType: &connect.ConfigRequest_Operation_Set{Set: &connect.ConfigRequest_Set{
			Pairs: []*connect.KeyValue{{Key: key, Value: proto.String(value)}},
		}}},
	})
	if err != nil {
		panic(err)
	}
	return message
}

func replayOn(t *testing.T, r *journalRig, engine *fakeSpark) sessions.Replayed {
	t.Helper()
	done, err := r.replayer().Replay(t.Context(), engine.cluster(), r.session)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func (r *journalRig) replayer() *sessions.Replayer {
	return &sessions.Replayer{Journal: r.Journal, Store: r.store}
}

func (f *fakeSpark) cluster() *sessions.Cluster {
	return &sessions.Cluster{Name: "c", Address: f.Addr(), Token: "secret"}
}

func makes(e *sessions.Entry, view string) *sessions.Entry { e.Makes = view; return e }
func drops(e *sessions.Entry, view string) *sessions.Entry { e.Drops = view; return e }
func needs(e *sessions.Entry, view string) *sessions.Entry { e.Needs = view; return e }

func TestReplay(t *testing.T) {
	r, engine := newJournalRig(t), newFakeSpark(t)
	big := bytes.Repeat([]byte("x"), 100<<10)
	for _, e := range []*sessions.Entry{
		{Method: "Config", What: "conf", Message: configSet("k", "v")},
		makes(statement("view", "CREATE TEMP VIEW v AS SELECT 1"), "v"),
		{Method: "AddArtifacts", Artifacts: []sessions.Artifact{{Name: "files/a", Data: []byte("abc")}, {Name: "jars/b", Data: big}, {Name: "files/empty", Data: []byte{}}}},
		drops(statement("view", "DROP VIEW lasting"), "lasting"),
		needs(statement("view", "ALTER VIEW v AS SELECT 2"), "v"),
		drops(statement("view", "DROP VIEW v"), "v"),
		drops(statement("view", "DROP VIEW v"), "v"),
		makes(statement("view", "CREATE GLOBAL TEMP VIEW g AS SELECT 1"), "global_temp.g"),
		drops(statement("view", "DROP VIEW global_temp.g"), "global_temp.g"),
	} {
		r.begin(t, e, "commit")
	}
	r.session.Catalog, r.session.Database, r.session.Conf = "cat", "db", sessions.NewPairs(map[string]string{"b": "2", "a": "1"})
	got := replayOn(t, r, engine)[r.spark]
	want := []string{
		"set a=1", "set b=2", "catalog cat", "database db", "hello",
		"set k=v", "CREATE TEMP VIEW v AS SELECT 1", "artifact files/a:3 jars/b:102400/4 files/empty:0",
		"ALTER VIEW v AS SELECT 2", "drop v", "CREATE GLOBAL TEMP VIEW g AS SELECT 1", "drop global g",
	}
	if !slices.Equal(engine.told, want) {
		t.Errorf("the engine was told\n%q, want\n%q", engine.told, want)
	}
	if len(got.Lost) != 0 || got.ServerID != newEngine || got.Entries != 7 {
		t.Errorf("replayed %+v", got)
	}
	carried, err := r.store.Carried(t.Context(), r.session.ID, r.session.Generation+1)
	if err != nil || carried[r.spark].ServerID != newEngine || carried[r.spark].Notable {
		t.Errorf("recorded %+v, %v", carried, err)
	}
}

func TestReplayTellsWhatIsLost(t *testing.T) {
	r, engine := newJournalRig(t), newFakeSpark(t)
	engine.refuse = "bad"
	r.begin(t, makes(statement("temporary view `a`", "CREATE TEMP VIEW a AS bad"), "a"), "commit")
	r.begin(t, needs(statement("temporary view `a` as altered", "ALTER VIEW a"), "a"), "commit")
	r.begin(t, statement("the configuration k", "SET bad"), "")
	r.begin(t, &sessions.Entry{Method: "ExecutePlan", What: "a cached table", Lost: "caches are not carried"}, "commit")
	r.begin(t, statement("the rest", "good"), "commit")
	r.session.Catalog = "bad"
	got := replayOn(t, r, engine)[r.spark]
	want := []sessions.Loss{
		{What: `catalog "bad"`, Why: "the new engine refuses it: [NO] it may not", Notable: true},
		{What: "temporary view `a`", Why: "the new engine refuses it: [NO] it may not", Notable: true, Seq: 1},
		{What: "temporary view `a` as altered", Why: "what it changes could not be carried", Notable: true, Seq: 2},
		{What: "the configuration k", Why: "how it ended before is not known, and the new engine refuses it: [NO] it may not", Notable: true, Seq: 3},
		{What: "a cached table", Why: "caches are not carried", Seq: 4},
	}
	if !slices.Equal(got.Lost, want) || got.Entries != 1 {
		t.Errorf("%d replayed, lost\n%v, want\n%v", got.Entries, got.Lost, want)
	}
	next := r.session
	next.Generation++
	next.EngineGeneration = next.Generation
	lost, err := r.replayer().Lost(t.Context(), next)
	if err != nil || !slices.Equal(lost[r.spark], want) {
		t.Errorf("described %v, %v", lost, err)
	}
	// With another key the list cannot be read, and its owner is told that.
	other := &sessions.Replayer{Journal: newJournal(t, r.store, "2"), Store: r.store}
	if lost, err = other.Lost(t.Context(), next); err != nil || len(lost[r.spark]) != 1 || !strings.Contains(lost[r.spark][0].Why, "cannot be opened") {
		t.Errorf("by another key described %v, %v", lost, err)
	}
	// Once told, it is no news to the engine after the next.
	carried, err := r.store.Carried(t.Context(), next.ID, next.Generation)
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.Tell(t.Context(), &next, r.spark, carried[r.spark])
	if err != nil || !strings.HasPrefix(text, "catalog \"bad\" (the new engine refuses it: [NO] it may not); temporary view `a` (") {
		t.Errorf("told %q, %v", text, err)
	}
	if text, err = r.Tell(t.Context(), &next, r.spark, carried[r.spark]); err != nil || text != "" {
		t.Errorf("told twice: %q, %v", text, err)
	}
	r.settled()
	if got := replayOn(t, r, newFakeSpark(t))[r.spark]; len(got.Lost) != 0 || got.Entries != 1 {
		t.Errorf("the next engine: %+v", got)
	}
}

// A view that was made again is not lost, however its first making ended.
func TestReplayOfWhatWasMadeAgain(t *testing.T) {
	r, engine := newJournalRig(t), newFakeSpark(t)
	engine.refuse = "bad"
	r.begin(t, makes(statement("temporary view `a`", "bad"), "a"), "commit")
	r.begin(t, makes(statement("temporary view `a`", "good"), "a"), "commit")
	if got := replayOn(t, r, engine)[r.spark]; len(got.Lost) != 0 {
		t.Errorf("lost %v", got.Lost)
	}
}

// A replay that could not be recorded is done once more. On a shared engine that is
// still there, and has what was made, nothing is called lost; what was never known to
// be done, and what others may have made, is.
func TestReplayTwiceOnOneEngine(t *testing.T) {
	for said, has := range map[string]bool{
		"[TEMP_TABLE_OR_VIEW_ALREADY_EXISTS] Cannot create the temporary view `v`": true,
		"[ROUTINE_ALREADY_EXISTS] Cannot create the function `v`":                  true,
		"[VARIABLE_ALREADY_EXISTS] Cannot create the variable `v`":                 true,
		"Temporary View already exists: v":                                         true,
		"[TABLE_OR_VIEW_NOT_FOUND] `v`":                                            false,
	} {
		for _, c := range []struct {
			name      string
			isolation sessions.Isolation
			makes     string
			settle    string
			before    string // what came of an act before it: lost, notably lost, or nothing
			want      bool
		}{
			{"made by the replay before", sessions.IsolateNone, "v", "commit", "", has},
			{"on an engine of its own", sessions.IsolateSession, "v", "commit", "", false},
			{"of all sessions", sessions.IsolateNone, "global_temp.v", "commit", "", false},
			{"not known to be done", sessions.IsolateNone, "v", "", "", false},
			{"after a loss", sessions.IsolateNone, "v", "commit", "notably lost", false},
			{"after a loss that changes nothing", sessions.IsolateNone, "v", "commit", "lost", has},
		} {
			r, engine := newJournalRig(t), newFakeSpark(t)
			engine.refuse, engine.with = "make it", status.Error(codes.Internal, said)
			if c.before != "" {
				r.begin(t, &sessions.Entry{Method: "ExecutePlan", What: "before", Lost: c.before, Notable: c.before != "lost"}, "commit")
			}
			r.begin(t, makes(statement("view", "make it"), c.makes), c.settle)
			r.begin(t, needs(statement("view", "alter"), c.makes), "commit")
			cluster := engine.cluster()
			cluster.Isolation = c.isolation
			done, err := r.replayer().Replay(t.Context(), cluster, r.session)
			if err != nil {
				t.Fatal(err)
			}
			got := done[r.spark]
			kept := !slices.ContainsFunc(got.Lost, func(l sessions.Loss) bool { return l.What == "view" })
			if kept != c.want || c.want && (got.Entries != 2 || !slices.Contains(engine.told, "alter")) {
				t.Errorf("%s, %q: %+v, the engine was told %q", c.name, said, got, engine.told)
			}
		}
	}
}

// An engine that goes away meanwhile has not lost anything: the replay failed.
func TestReplayWithoutEngine(t *testing.T) {
	r, engine := newJournalRig(t), newFakeSpark(t)
	engine.refuse, engine.with = "act", status.Error(codes.Unavailable, "going away")
	r.begin(t, statement("x", "act"), "commit")
	if _, err := r.replayer().Replay(t.Context(), engine.cluster(), r.session); status.Code(errors.Unwrap(err)) != codes.Unavailable {
		t.Errorf("error %v", err)
	}
	engine.Stop()
	if _, err := r.replayer().Replay(t.Context(), engine.cluster(), r.session); err == nil {
		t.Error("no error without an engine")
	}
	carried, err := r.store.Carried(t.Context(), r.session.ID, r.session.Generation+1)
	if err != nil || len(carried) != 0 {
		t.Errorf("recorded %v, %v", carried, err)
	}
	r.store.Fail(sessions.ErrUnavailable)
	if _, err := r.replayer().Replay(t.Context(), engine.cluster(), r.session); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

// An act that takes too long, such as one that fills a cache, is lost and said to be: else
// the session would never be woken. It has at most half of the time that is left.
func TestReplayOfWhatTakesTooLong(t *testing.T) {
	for name, c := range map[string]struct {
		act, all time.Duration
		want     string
	}{
		"longer than an act may":    {500 * time.Millisecond, 0, "on the new engine it took longer than 500ms"},
		"half of what all may take": {0, 2 * time.Second, "on the new engine it took longer than "},
	} {
		t.Run(name, func(t *testing.T) {
			r, engine := newJournalRig(t), newFakeSpark(t)
			engine.slow = "CACHE"
			r.begin(t, makes(statement("the table `t`, cached", "CACHE TABLE t AS SELECT 1"), "t"), "commit")
			r.begin(t, needs(statement("temporary view `t` as altered", "ALTER VIEW t"), "t"), "commit")
			r.begin(t, statement("the rest", "good"), "commit")
			ctx := t.Context()
			if c.all > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.all)
				defer cancel()
			}
			replayer := r.replayer()
			replayer.Act = c.act
			done, err := replayer.Replay(ctx, engine.cluster(), r.session)
			if err != nil {
				t.Fatal(err)
			}
			got := done[r.spark]
			if got.Entries != 1 || len(got.Lost) != 2 || got.Lost[0].What != "the table `t`, cached" || !got.Lost[0].Notable ||
				!strings.HasPrefix(got.Lost[0].Why, c.want) || !got.Lost[1].Notable {
				t.Errorf("%d replayed, lost %+v", got.Entries, got.Lost)
			}
		})
	}
}

// An engine that hangs has not lost anything either.
func TestReplayOnEngineThatHangs(t *testing.T) {
	r, engine := newJournalRig(t), newFakeSpark(t)
	engine.slow, engine.dies = "act", true
	r.begin(t, statement("x", "act"), "commit")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	replayer := r.replayer()
	replayer.Act = 200 * time.Millisecond
	if done, err := replayer.Replay(ctx, engine.cluster(), r.session); err == nil || ctx.Err() != nil {
		t.Errorf("replayed %+v, %v", done, err)
	}
	if carried, err := r.store.Carried(t.Context(), r.session.ID, r.session.Generation+1); err != nil || len(carried) != 0 {
		t.Errorf("recorded %v, %v", carried, err)
	}
}

func TestLossText(t *testing.T) {
	list := []sessions.Loss{{What: "a", Why: "b", Notable: true}, {What: "c", Why: "d"}, {What: "e", Why: "f", Notable: true}, {What: "g", Why: "h", Notable: true}}
	if got := sessions.LossText(list, 14); got != "a (b); e (f); and 1 more" {
		t.Errorf("%q", got)
	}
	if got := sessions.LossText(nil, 10); got != "" {
		t.Errorf("%q", got)
	}
}
