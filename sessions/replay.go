package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Replayer brings a new engine to the state that the one before it had.
type Replayer struct {
	// Journal says what that state consists of. Required.
	Journal *Journal
	// Store knows the Spark sessions. Required.
	Store interface {
		Bound(ctx context.Context, id ID) ([]SparkID, error)
		CarriedStore
	}
	// Engine dials.
	Engine EngineClient
	// Parallel is how many Spark sessions are brought up at a time; 0 = 4.
	Parallel int
	// Act is how long one act may take, and never more than half of the time that is left
	// to the replay; one that takes longer is lost. 0 = 2 min.
	Act time.Duration
	// Logger; nil = none.
	Logger *zap.Logger
}

// Replayed is what became of the Spark sessions of one session.
type Replayed map[SparkID]*SparkReplayed

// SparkReplayed is what became of one of them.
type SparkReplayed struct {
	// ServerID is what the engine calls it; "" = it does not say.
	ServerID string
	// Entries is how many acts the engine took.
	Entries int
	// Lost is what it does not have.
	Lost []Loss
}

// Restore is Replay for a Waker. What could not be carried is in the record.
func (r *Replayer) Restore(ctx context.Context, c *Cluster, s Session) error {
	_, err := r.Replay(ctx, c, s)
	return err
}

// Replay does again, on an engine that has nothing of session s yet, what its
// journals hold, and records the result for the generation that follows s's. To be
// called once the engine answers and before the session is active. What the engine
// refuses is a Loss and does not stop the rest. The error is the registry's, the
// context's, or that the engine cannot be reached: the session must not become
// active then.
func (r *Replayer) Replay(ctx context.Context, c *Cluster, s Session) (Replayed, error) {
	bound, err := r.Store.Bound(ctx, s.ID)
	if err != nil {
		return nil, fmt.Errorf("replay session %s: %w", s.ID, err)
	}
	entries, err := r.Journal.Store.Entries(ctx, s.ID)
	if err != nil {
		return nil, fmt.Errorf("replay session %s: %w", s.ID, err)
	}
	conn, err := r.Engine.connect(c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	done, err := r.all(ctx, c, conn, s, bound, entries)
	if err != nil {
		return nil, fmt.Errorf("replay session %s: %w", s.ID, err)
	}
	return done, r.record(ctx, s, done)
}

// all replays the Spark sessions, several at a time.
func (r *Replayer) all(ctx context.Context, cluster *Cluster, conn *grpc.ClientConn, s Session, bound []SparkID,
	entries map[SparkID][]SealedEntry) (Replayed, error) {
	parallel := r.Parallel
	if parallel == 0 {
		parallel = 4
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var failed error
	done := Replayed{}
	slots := make(chan struct{}, parallel)
	var tasks sync.WaitGroup
	for _, spark := range bound {
		tasks.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			p := &replay{
				journal: r.Journal, session: s, spark: spark, act: cmp.Or(r.Act, 2*time.Minute), alive: map[string]bool{}, shared: cluster.Isolation == IsolateNone,
				engine: sparkCaller{conn: conn, user: s.Owner, spark: spark},
			}
			p.begin(entries[spark])
			err := r.Engine.Prepare(ctx, cluster, s, p.engine.spark)
			if p.prepared(err) {
				err = p.run(withToken(ctx, cluster), entries[spark])
			}
			mu.Lock()
			defer mu.Unlock()
			done[spark] = &p.done
			if err != nil && failed == nil {
				failed = err
				cancel()
			}
		})
	}
	tasks.Wait()
	return done, failed
}

func (r *Replayer) record(ctx context.Context, s Session, done Replayed) error {
	carried := make(map[SparkID]Carried, len(done))
	for _, spark := range slices.Sorted(maps.Keys(done)) {
		d := done[spark]
		c := Carried{ServerID: d.ServerID, Replayed: d.Entries}
		if err := r.Journal.sealLosses(s.ID, spark, s.Generation+1, &c, d.Lost); err != nil {
			return err
		}
		carried[spark] = c
		if r.Logger != nil && len(d.Lost) > 0 {
			r.Logger.Warn("spark session was not carried whole", zap.String("session", string(s.ID)),
				zap.String("spark_session", string(spark)), zap.Int("replayed", d.Entries), zap.Int("lost", len(d.Lost)))
		}
	}
	if err := r.Store.SetCarried(ctx, s.ID, s.Generation+1, carried); err != nil {
		return fmt.Errorf("record replay of session %s: %w", s.ID, err)
	}
	return nil
}

// Lost returns what the session's engine does not have of each Spark session, for
// its owner. A Spark session that lacks nothing is not in it.
func (r *Replayer) Lost(ctx context.Context, s Session) (map[SparkID][]Loss, error) {
	carried, err := r.Store.Carried(ctx, s.ID, s.EngineGeneration)
	if err != nil {
		return nil, fmt.Errorf("what session %s lost: %w", s.ID, err)
	}
	lost := map[SparkID][]Loss{}
	for spark, c := range carried {
		list, err := r.Journal.Losses(s.ID, spark, s.EngineGeneration, c)
		if err != nil {
			list = []Loss{{What: "what it lost", Why: "it cannot be read any more: " + err.Error(), Notable: true}}
		}
		if len(list) > 0 {
			lost[spark] = list
		}
	}
	return lost, nil
}

// LostText is Lost in words, a Spark session after the other.
func (r *Replayer) LostText(ctx context.Context, s Session) ([]string, error) {
	lost, err := r.Lost(ctx, s)
	var text []string
	for _, spark := range slices.Sorted(maps.Keys(lost)) {
		for _, l := range lost[spark] {
			text = append(text, fmt.Sprintf("%s: %s (Spark session %s)", l.What, l.Why, spark))
		}
	}
	return text, err
}

// replay is the way of one Spark session.
type replay struct {
	journal *Journal
	session Session
	spark   SparkID
	engine  sparkCaller
	act     time.Duration   // how long one act may take
	clones  int             // times that engine is still to be cloned, in the end to spark
	alive   map[string]bool // temporary views by name: made by this replay, or lost
	shared  bool            // the engine may outlive a replay that was not recorded
	done    SparkReplayed
}

// prepared says whether the Spark session has what its session chose, or lost it
// for good; else going on makes no sense.
func (p *replay) prepared(err error) bool {
	var setup *SetupError
	if errors.As(err, &setup) {
		p.done.Lost = append(p.done.Lost, Loss{What: setup.What, Why: "the new engine refuses it: " + setup.Problem, Notable: true})
		return true
	}
	return err == nil
}

// begin says in which Spark session the replay begins. What a clone does not have of
// the session that it is a clone of, such as its current catalog and its variables, the
// engine alone knows; so that session is made once more, and cloned.
func (p *replay) begin(entries []SealedEntry) {
	for _, sealed := range entries {
		if sealed.isClone() {
			p.clones++
			p.engine.spark = SparkID(uuid.NewString())
		}
	}
}

// clone goes on in a clone of the Spark session where the replay stands. It fails only
// where going on makes no sense.
func (p *replay) clone(ctx context.Context, seq uint64) error {
	origin := p.engine
	p.engine.spark, p.clones = p.spark, p.clones-1
	if p.clones > 0 {
		p.engine.spark = SparkID(uuid.NewString())
	}
	err := origin.clone(ctx, p.engine.spark)
	if p.shared && err != nil && strings.Contains(reason(err), "TARGET_SESSION_ID_ALREADY_EXISTS") {
		err = nil // by an earlier replay, which could not be recorded
	}
	switch {
	case broken(ctx, err):
		return err
	case err != nil:
		for view := range p.alive {
			p.alive[view] = false
		}
		p.lose(cloned(), seq, "the new engine refuses it: "+reason(err), true)
	}
	origin.release(ctx)
	return p.hello(ctx)
}

// broken says that the engine cannot be reached, or that there is no time left.
func broken(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, ErrUnavailable) || status.Code(err) == codes.Unavailable)
}

func (p *replay) hello(ctx context.Context) error {
	id, err := p.engine.hello(ctx)
	if err != nil {
		return fmt.Errorf("spark session %s: %w", p.spark, err)
	}
	p.done.ServerID = id
	return nil
}

func (p *replay) run(ctx context.Context, entries []SealedEntry) error {
	if err := p.hello(ctx); err != nil {
		return err
	}
	for _, sealed := range entries {
		e, err := p.journal.read(ctx, p.session.ID, p.spark, sealed.Seq)
		if err != nil {
			return err
		}
		if err := p.entry(ctx, e, sealed); err != nil {
			return err
		}
	}
	return nil
}

// entry does one act again. It fails only where going on makes no sense.
func (p *replay) entry(ctx context.Context, e *Entry, sealed SealedEntry) error {
	switch {
	case sealed.isClone():
		return p.clone(ctx, sealed.Seq)
	case e.Lost != "":
		p.lose(e, sealed.Seq, e.Lost, e.Notable)
		return nil
	case e.Drops != "" && !p.alive[e.Drops]:
		return nil // not one that is here: by this name there may be a lasting view
	case e.DropsTable && p.done.ServerID == string(p.spark):
		return nil // on Sail it was a table that was dropped
	case e.Needs != "" && !p.alive[e.Needs]:
		if _, known := p.alive[e.Needs]; known {
			p.lose(e, sealed.Seq, "what it changes could not be carried", true)
		}
		return nil // else it was a lasting view
	}
	limit := patience(ctx, p.act)
	err := within(ctx, limit, func(ctx context.Context) error { return p.do(ctx, e) })
	switch {
	case err == nil, sealed.Committed && p.hasIt(e, err):
		p.took(e)
		return nil
	case broken(ctx, err):
		return err
	}
	why := "the new engine refuses it: " + reason(err)
	if errors.Is(err, errSlow) {
		if err := within(ctx, patience(ctx, answersWithin), p.hello); err != nil {
			return err
		}
		why = fmt.Sprintf("on the new engine it took longer than %s", limit.Round(100*time.Millisecond))
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrJournalKey) {
		why = "its content can no longer be read"
	}
	if !sealed.Committed {
		why = "how it ended before is not known, and " + why
	}
	p.lose(e, sealed.Seq, why, true)
	return nil
}

// answersWithin is how long an engine has to show that it is there, after an act that took
// too long.
const answersWithin = 10 * time.Second

// errSlow: all the time is over that an act may take, and not that of the replay.
var errSlow = errors.New("it took too long")

// patience is how long something may take: half of the time that is left, so that what
// comes behind it has some, at most so long.
func patience(ctx context.Context, most time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return most
	}
	return min(most, max(time.Until(deadline)/2, 0).Truncate(time.Millisecond))
}

// within returns errSlow where do took longer than limit, and ctx goes on. It is no
// deadline, which an engine would be told and could end the act by, a moment before us.
func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(limit, cancel).Stop()
	err := do(own)
	if err != nil && own.Err() != nil && ctx.Err() == nil {
		return errSlow
	}
	return err
}

// hasIt says whether an engine refuses an act because an earlier replay, which could
// not be recorded, has done it there. What an engine once took, and does not take after
// all that was before it, it can only have by that. Of global views that is not so:
// another session may have made one of that name.
func (p *replay) hasIt(e *Entry, err error) bool {
	gap := slices.ContainsFunc(p.done.Lost, func(l Loss) bool { return l.Notable })
	if !p.shared || err == nil || gap || strings.HasPrefix(e.Makes, globalViews) {
		return false
	}
	said := reason(err)
	return slices.ContainsFunc(alreadyThere, func(text string) bool { return strings.Contains(said, text) })
}

// alreadyThere is what engines say of what is there: Apache Spark's error conditions,
// which clients of Spark rely on, and Sail's sentence.
var alreadyThere = []string{
	"[TEMP_TABLE_OR_VIEW_ALREADY_EXISTS]", "[ROUTINE_ALREADY_EXISTS]", "[VARIABLE_ALREADY_EXISTS]",
	"Temporary View already exists",
}

// took notes an act that the engine did. What it made anew is no longer lost.
func (p *replay) took(e *Entry) {
	p.done.Entries++
	if e.Makes != "" {
		p.alive[e.Makes] = true
	}
	if e.Drops != "" {
		delete(p.alive, e.Drops)
	}
	if e.Makes != "" || e.Replaces != "" {
		p.done.Lost = slices.DeleteFunc(p.done.Lost, func(l Loss) bool { return l.What == e.What })
	}
}

func (p *replay) lose(e *Entry, seq uint64, why string, notable bool) {
	if e.Makes != "" {
		p.alive[e.Makes] = false
	}
	p.done.Lost = append(p.done.Lost, Loss{What: e.What, Why: why, Notable: notable, Seq: seq})
}

func (p *replay) do(ctx context.Context, e *Entry) error {
	switch {
	case e.Drops != "" && e.Makes == "":
		return p.engine.dropView(ctx, e.Drops)
	case e.Method == "Config":
		return p.engine.config(ctx, e.Message)
	case e.Method == "AddArtifacts":
		return p.engine.addArtifacts(ctx, e.Artifacts, func(a Artifact) ([]byte, error) {
			return p.journal.artifact(ctx, p.session.ID, a)
		})
	default:
		return p.engine.execute(ctx, e.Message)
	}
}

// maxReason bounds what is kept of an engine's message, in bytes.
const maxReason = 300

// reason is an engine's message for the owner: its first line, cut.
func reason(err error) string {
	text := err.Error()
	if st, ok := status.FromError(err); ok {
		text = st.Message()
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if len(text) > maxReason {
		text = text[:maxReason]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
		text += "..."
	}
	return text
}
