package sessions

import (
	"context"
	"errors"
)

// ErrJournalFull: what was to be kept is over a cap.
var ErrJournalFull = errors.New("journal is over its cap")

// JournalStore keeps the journals of Spark sessions, as bytes that it cannot
// read. They end with the session. Every method may also return ErrUnavailable.
type JournalStore interface {
	// NextEntry gives out the number of a Spark session's next entry, from 1 on;
	// none is given twice. ErrNotFound, ErrClosed.
	NextEntry(ctx context.Context, id ID, spark SparkID) (uint64, error)

	// AddEntry keeps an entry, not committed. ErrJournalFull, ErrNotFound, ErrClosed.
	AddEntry(ctx context.Context, id ID, spark SparkID, e SealedEntry) error

	// SettleEntry commits an entry, or takes it back. A commit also takes back an
	// earlier committed entry of the same slot, where no entry without a slot was
	// added between the two. An entry that is not there is no error.
	SettleEntry(ctx context.Context, id ID, spark SparkID, seq uint64, commit bool) error

	// Entries returns what is kept, without bodies, in the order of the numbers.
	// A session without any is no error.
	Entries(ctx context.Context, id ID) (map[SparkID][]SealedEntry, error)

	// EntryBody returns the body of an entry. ErrNotFound where it is not whole.
	EntryBody(ctx context.Context, id ID, spark SparkID, seq uint64) ([]byte, error)

	// DropJournal takes all entries of a Spark session back.
	DropJournal(ctx context.Context, id ID, spark SparkID) error

	// PutBlob keeps a blob by its name, once. ErrJournalFull, ErrNotFound, ErrClosed.
	PutBlob(ctx context.Context, id ID, name string, body []byte) error

	// Blob returns a blob. ErrNotFound.
	Blob(ctx context.Context, id ID, name string) ([]byte, error)
}

// SealedEntry is an entry as a JournalStore keeps it.
type SealedEntry struct {
	// Seq is its number in the journal of its Spark session.
	Seq uint64
	// Slot names what a later entry of the same slot may replace; "" = it stands
	// for itself. It tells nothing to who has no key. No spaces.
	Slot string
	// Committed: the engine said that it did it. Else what it said is not known.
	Committed bool
	// Body is nil in what Entries returns.
	Body []byte
}

// CarriedStore keeps what became of Spark sessions when their engine was
// replaced. It ends with the session. Every method may also return ErrUnavailable.
type CarriedStore interface {
	// SetCarried records what a generation began with, in place of what an earlier
	// one did. ErrNotFound, ErrClosed.
	SetCarried(ctx context.Context, id ID, generation uint64, carried map[SparkID]Carried) error

	// Carried returns what was recorded for this generation; none is no error.
	Carried(ctx context.Context, id ID, generation uint64) (map[SparkID]Carried, error)

	// TakeLoss says, once for each Spark session and generation on all replicas
	// together, that the caller is the one to tell of what was lost.
	TakeLoss(ctx context.Context, id ID, spark SparkID, generation uint64) (bool, error)
}

// Carried is what became of a Spark session when its engine was replaced.
type Carried struct {
	// ServerID is what the new engine calls the session (server_side_session_id);
	// "" = not known.
	ServerID string `json:"server_id,omitempty"`
	// Replayed is how many entries the new engine took.
	Replayed int `json:"replayed,omitempty"`
	// Notable: of what was lost, something is Loss.Notable.
	Notable bool `json:"notable,omitempty"`
	// Lost is what the engine does not have, encrypted: Journal.Losses.
	Lost []byte `json:"lost,omitempty"`
}
