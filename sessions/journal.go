package sessions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// JournalConfig is what a Journal is made of.
type JournalConfig struct {
	// Store keeps it. Required.
	Store JournalStore
	// Keys encrypt it. Required.
	Keys *JournalKeys
	// Carried knows what was lost with an engine. nil = Tell has nothing to say.
	Carried CarriedStore
	// SettleTimeout bounds each try to settle an entry; 0 = 2 s.
	SettleTimeout time.Duration
	// Logger; nil = none.
	Logger *zap.Logger
}

// Journal records, for each Spark session, the acts that its state consists of,
// so that a new engine can be brought to the same state (Replay).
//
// It is written ahead: an act is in the journal before the engine has the request
// whole, and committed once the engine has said that it did it. What a client saw
// succeed is therefore always there; an act that was not committed, since a
// process died or a stream broke between the two, is replayed too, and what
// became of it is told. See docs/design/0008-journal.md. Methods are safe for any goroutine.
type Journal struct {
	JournalConfig

	clones cloneTurns

	queue settleQueue
	ready chan struct{} // holds a token if there are any in it
}

// Ticket is an entry that was begun.
type Ticket struct {
	session ID
	spark   SparkID
	seq     uint64 // 0 = the whole journal of spark
}

// NewJournal checks c and starts nothing. Call Run.
func NewJournal(c JournalConfig) (*Journal, error) {
	if c.Store == nil || c.Keys == nil {
		return nil, errors.New("journal: a store and keys are required")
	}
	setDefault(&c.SettleTimeout, 2*time.Second)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return &Journal{JournalConfig: c, clones: newCloneTurns(), queue: newSettleQueue(), ready: make(chan struct{}, 1)}, nil
}

// Begin records an act that is about to reach the engine. What is over a cap is
// recorded as lost, and is no error. ErrUnavailable, ErrClosed, ErrNotFound: the
// act is not recorded and must not go on.
func (j *Journal) Begin(ctx context.Context, id ID, spark SparkID, e *Entry) (Ticket, error) {
	t, err := j.begin(ctx, id, spark, e)
	if errors.Is(err, ErrJournalFull) {
		err = j.add(ctx, t, e.lost(overCap))
	}
	switch {
	case err == nil:
		return t, nil
	case t.seq == 0:
		return Ticket{}, err
	case !errors.Is(err, ErrJournalFull):
		j.Settle(t, false) // it may be there all the same
		return Ticket{}, err
	}
	return Ticket{}, nil // so much was lost that the loss of one more is no news
}

// begin is Begin without a word for what is over a cap: ErrJournalFull. The ticket has
// a number as soon as the entry may be there.
func (j *Journal) begin(ctx context.Context, id ID, spark SparkID, e *Entry) (t Ticket, err error) {
	t = Ticket{session: id, spark: spark}
	if err := j.putArtifacts(ctx, id, e); err != nil {
		return t, err
	}
	if t.seq, err = j.Store.NextEntry(ctx, id, spark); err != nil {
		return t, fmt.Errorf("begin journal entry: %w", err)
	}
	return t, j.add(ctx, t, e)
}

// overCap is why an entry is lost for which there is no room.
const overCap = "the state of this Spark session is over the cap of its journal, or of its session's journals"

// lost is e without what is needed to do it again.
func (e *Entry) lost(why string) *Entry {
	return &Entry{Method: e.Method, What: e.What, Makes: e.Makes, Lost: why, Notable: true}
}

func (j *Journal) add(ctx context.Context, t Ticket, e *Entry) error {
	plain, err := e.encode()
	if err != nil {
		return err
	}
	sealed := SealedEntry{Seq: t.seq}
	if sealed.Body, err = j.Keys.seal(t.session, entryPlace(t.spark, t.seq), plain); err != nil {
		return err
	}
	switch {
	case e.Lost != "":
		sealed.Slot = lostSlot + j.Keys.mask(t.session, e.What)
	case e.Method == cloneMethod:
		sealed.Slot = fmt.Sprint(cloneSlot, t.seq)
	case e.Replaces != "":
		sealed.Slot = j.Keys.mask(t.session, e.Replaces)
	}
	if err := j.Store.AddEntry(ctx, t.session, t.spark, sealed); err != nil {
		return fmt.Errorf("add journal entry: %w", err)
	}
	return nil
}

// lostSlot begins the slot of entries that only say what was lost: a store keeps
// some of these beyond its cap, and a second of the same name in place of the first.
const lostSlot = "lost-"

// IsLostSlot says whether a slot is that of an entry which only says what was lost.
func IsLostSlot(slot string) bool {
	return len(slot) > len(lostSlot) && slot[:len(lostSlot)] == lostSlot
}

// putArtifacts moves the content of artifacts into blobs. What does not fit makes
// the entry a lost one.
func (j *Journal) putArtifacts(ctx context.Context, id ID, e *Entry) error {
	for i := range e.Artifacts {
		a := &e.Artifacts[i]
		if a.Data == nil {
			continue
		}
		sum := sha256.Sum256(a.Data)
		a.Sum, a.Size = hex.EncodeToString(sum[:]), int64(len(a.Data))
		name := j.Keys.mask(id, a.Sum)
		sealed, err := j.Keys.sealBlob(id, name, a.Data)
		if err != nil {
			return err
		}
		err = j.Store.PutBlob(ctx, id, name, sealed)
		if errors.Is(err, ErrJournalFull) {
			*e = *e.lost("the artifacts of this session are over their cap")
			return nil
		}
		if err != nil {
			return fmt.Errorf("keep artifact: %w", err)
		}
		a.Blob, a.Data = name, nil
	}
	return nil
}

// Forget drops the journal of a Spark session that its client has released. It
// does not wait.
func (j *Journal) Forget(id ID, spark SparkID) { j.Settle(Ticket{session: id, spark: spark}, false) }

// Settle says that the engine did the act (commit), or refused it and nothing
// changed. It does not wait.
func (j *Journal) Settle(t Ticket, commit bool) {
	if t.session == "" || t.seq == 0 && commit {
		return
	}
	if !j.queue.add(settlement{t, commit}) {
		j.Logger.Warn("journal entry stays uncommitted: too many wait", zap.String("session", string(t.session)))
		return
	}
	select {
	case j.ready <- struct{}{}:
	default:
	}
}

// Run settles entries until ctx ends, then those that wait, each once. What it
// could not settle in the end stays uncommitted.
func (j *Journal) Run(ctx context.Context) error {
	for {
		select {
		case <-j.ready:
			j.settleAll(ctx)
		case <-ctx.Done():
			j.settleAll(ctx)
			return ctx.Err()
		}
	}
}

// settleAll settles what waits. With the registry away it stops and comes again.
func (j *Journal) settleAll(ctx context.Context) {
	for {
		s, ok := j.queue.next()
		if !ok {
			return
		}
		if err := j.settleOne(ctx, s); errors.Is(err, ErrUnavailable) {
			j.again(ctx, s)
			return
		}
	}
}

// settleOne is not cut short by the end of Run: SettleTimeout bounds it.
func (j *Journal) settleOne(ctx context.Context, s settlement) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.SettleTimeout)
	defer cancel()
	var err error
	if s.seq == 0 {
		err = j.Store.DropJournal(ctx, s.session, s.spark)
	} else {
		err = j.Store.SettleEntry(ctx, s.session, s.spark, s.seq, s.commit)
	}
	if err != nil {
		j.Logger.Warn("journal entry is not settled", zap.String("session", string(s.session)), zap.Error(err))
	}
	return err
}

// again puts back what the registry could not take, and waits a little.
func (j *Journal) again(ctx context.Context, s settlement) {
	j.queue.putBack(s)
	pause := time.NewTimer(time.Second)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return
	}
	select {
	case j.ready <- struct{}{}:
	default:
	}
}

// read opens an entry. One that is damaged comes back as a lost one.
func (j *Journal) read(ctx context.Context, id ID, spark SparkID, seq uint64) (*Entry, error) {
	sealed, err := j.Store.EntryBody(ctx, id, spark, seq)
	if errors.Is(err, ErrNotFound) {
		return unreadable("its journal entry is not whole"), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	plain, err := j.Keys.open(id, entryPlace(spark, seq), sealed)
	if err != nil {
		return unreadable("its journal entry cannot be opened with the keys there are"), nil //nolint:nilerr // it is told as lost
	}
	e, err := decodeEntry(plain)
	if err != nil {
		return unreadable("its journal entry cannot be read"), nil //nolint:nilerr // likewise
	}
	return e, nil
}

func unreadable(why string) *Entry {
	return &Entry{What: "an earlier act", Lost: why, Notable: true}
}

// artifact reads the content of an artifact.
func (j *Journal) artifact(ctx context.Context, id ID, a Artifact) ([]byte, error) {
	sealed, err := j.Store.Blob(ctx, id, a.Blob)
	if err != nil {
		return nil, fmt.Errorf("read artifact: %w", err)
	}
	return j.Keys.open(id, blobPlace(a.Blob), sealed)
}
