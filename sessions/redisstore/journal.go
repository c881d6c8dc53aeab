package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
)

// The fields of the journal's hash. <seq> is 16 hex digits.
//
//	<spark> n              the number that was given out last
//	<spark> count, bytes   what its entries are together
//	<spark> beyond         how many of them were added when the session's journals were full
//	<spark> run            grows with each entry that has no slot
//	<spark> s <slot>       "<run> <seq>" of the committed entry that holds the slot
//	<spark> e <seq>        "<c|b> <size> <pieces> <run> <slot>", c = committed
//	bytes                  what the entries of all Spark sessions are, and cost, together
//	counted                when that was last counted, in seconds
//	b <name>               "<size> <pieces>" of a blob
//	blobs                  what the blobs are together, in bytes
//
// Those of the parts' hash: "<spark> <seq> <i>" and "b <name> <i>".

// pieceBytes is the most that one command carries, so that a large body keeps to
// the timeouts of a small one.
const pieceBytes = 256 << 10

// lostBeyond is how many entries that only say what was lost a full journal takes.
const lostBeyond = 256

// Where all journals of a session are full together, each Spark session has a few of
// these, and small ones, so that its client is told at all.
const (
	lostBeyondAll = 4
	lostSmall     = 4 << 10
)

// journalCaps are Config.MaxJournal, MaxJournals, MaxBlobs and MaxEntries.
type journalCaps struct{ bytes, all, blobs, entries int }

func (c *journalCaps) set(from Config) {
	for _, f := range []struct {
		to   *int
		from int
	}{{&c.bytes, from.MaxJournal}, {&c.all, from.MaxJournals}, {&c.blobs, from.MaxBlobs}, {&c.entries, from.MaxEntries}} {
		if f.from > 0 {
			*f.to = f.from
		}
	}
}

func (s *Store) journalKeys(id sessions.ID) []string {
	return []string{s.keys.session(id), s.keys.journal(id), s.keys.parts(id), s.keys.bound(id)}
}

func seqField(seq uint64) string { return fmt.Sprintf("%016x", seq) }

// NextEntry implements sessions.JournalStore.
func (s *Store) NextEntry(ctx context.Context, id sessions.ID, spark sessions.SparkID) (uint64, error) {
	if !id.Valid() {
		return 0, sessions.ErrNotFound
	}
	got, err := nextEntry.Run(ctx, s.rdb, s.journalKeys(id), string(spark)).Text()
	if err != nil {
		return 0, unavailable(err)
	}
	seq, err := strconv.ParseUint(got, 10, 64)
	if err != nil {
		return 0, journalAnswer(got)
	}
	return seq, nil
}

// AddEntry implements sessions.JournalStore. The pieces come before what names
// them: a crash leaves pieces that nobody reads, and they go with the close.
func (s *Store) AddEntry(ctx context.Context, id sessions.ID, spark sessions.SparkID, e sessions.SealedEntry) error {
	if !id.Valid() {
		return sessions.ErrNotFound
	}
	beyond, beyondAll := 0, 0
	if sessions.IsLostSlot(e.Slot) {
		beyond = lostBeyond
		if len(e.Body) <= lostSmall {
			beyondAll = lostBeyondAll
		}
	}
	// Asked before the pieces are written, and again with them there.
	ask := func(add string) error {
		got, err := addEntry.Run(ctx, s.rdb, s.journalKeys(id), string(spark), seqField(e.Seq), len(e.Body), pieces(len(e.Body)),
			e.Slot, s.journal.bytes+beyond*1024, s.journal.entries+beyond, add, s.journal.all, beyondAll).Text()
		if err != nil {
			return unavailable(err)
		}
		return journalAnswer(got)
	}
	if len(e.Body) > pieceBytes {
		if err := ask(""); err != nil {
			return err
		}
	}
	if err := s.putPieces(ctx, id, string(spark)+" "+seqField(e.Seq), e.Body); err != nil {
		return err
	}
	err := ask("add")
	if err != nil {
		s.dropPieces(ctx, id, string(spark)+" "+seqField(e.Seq), len(e.Body))
	}
	return err
}

// SettleEntry implements sessions.JournalStore.
func (s *Store) SettleEntry(ctx context.Context, id sessions.ID, spark sessions.SparkID, seq uint64, commit bool) error {
	how := "abort"
	if commit {
		how = "commit"
	}
	return unavailable(settleEntry.Run(ctx, s.rdb, s.journalKeys(id), string(spark), seqField(seq), how).Err())
}

// Entries implements sessions.JournalStore.
func (s *Store) Entries(ctx context.Context, id sessions.ID) (map[sessions.SparkID][]sessions.SealedEntry, error) {
	fields, err := s.rdb.HGetAll(ctx, s.keys.journal(id)).Result()
	if err != nil {
		return nil, unavailable(err)
	}
	found := map[sessions.SparkID][]sessions.SealedEntry{}
	for field, value := range fields {
		spark, seq, ok := strings.Cut(field, " e ")
		if !ok {
			continue
		}
		e, err := decodeEntry(seq, value)
		if err != nil {
			return nil, fmt.Errorf("journal of session %s: %w", id, err)
		}
		found[sessions.SparkID(spark)] = append(found[sessions.SparkID(spark)], e)
	}
	for _, list := range found {
		slices.SortFunc(list, func(a, b sessions.SealedEntry) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	return found, nil
}

func decodeEntry(seq, value string) (e sessions.SealedEntry, err error) {
	if e.Seq, err = strconv.ParseUint(seq, 16, 64); err != nil {
		return e, fmt.Errorf("entry %q: %w", seq, err)
	}
	f := strings.SplitN(value, " ", 5)
	if len(f) != 5 {
		return e, fmt.Errorf("entry %s has %d parts", seq, len(f))
	}
	e.Committed, e.Slot = f[0] == "c", f[4]
	return e, nil
}

// EntryBody implements sessions.JournalStore.
func (s *Store) EntryBody(ctx context.Context, id sessions.ID, spark sessions.SparkID, seq uint64) ([]byte, error) {
	value, err := s.rdb.HGet(ctx, s.keys.journal(id), string(spark)+" e "+seqField(seq)).Result()
	if errors.Is(err, redis.Nil) {
		return nil, sessions.ErrNotFound
	}
	if err != nil {
		return nil, unavailable(err)
	}
	f := strings.SplitN(value, " ", 3)
	if len(f) != 3 {
		return nil, sessions.ErrNotFound
	}
	return s.getPieces(ctx, id, string(spark)+" "+seqField(seq), f[1])
}

// DropJournal implements sessions.JournalStore. What is the Spark session's is looked for
// among all that its session has, a little at a time, so that Redis serves others meanwhile.
func (s *Store) DropJournal(ctx context.Context, id sessions.ID, spark sessions.SparkID) error {
	journal, begin := s.keys.journal(id), string(spark)+" "
	some, err := s.rdb.HExists(ctx, journal, begin+"count").Result()
	if err != nil || !some {
		return unavailable(err)
	}
	for cursor := uint64(0); ; {
		var found []string
		if found, cursor, err = s.rdb.HScan(ctx, journal, cursor, begin+"*", scanned).Result(); err != nil {
			return unavailable(err)
		}
		args := []any{string(spark)}
		for i := 0; i < len(found); i += 2 { // field, value, ...
			if what := strings.TrimPrefix(found[i], begin); strings.HasPrefix(what, "e ") || strings.HasPrefix(what, "s ") {
				args = append(args, what)
			}
		}
		if len(args) == 1 && cursor != 0 {
			continue
		}
		if err := dropFields.Run(ctx, s.rdb, s.journalKeys(id), args...).Err(); err != nil {
			return unavailable(err)
		}
		if cursor == 0 {
			return nil
		}
	}
}

// scanned is how many fields of a journal are looked at in one command.
const scanned = 500

// PutBlob implements sessions.JournalStore.
func (s *Store) PutBlob(ctx context.Context, id sessions.ID, name string, body []byte) error {
	if !id.Valid() {
		return sessions.ErrNotFound
	}
	ask := func(add string) (string, error) {
		got, err := addBlob.Run(ctx, s.rdb, s.journalKeys(id), name, len(body), pieces(len(body)), s.journal.blobs, add).Text()
		return got, unavailable(err)
	}
	got, err := ask("")
	if err != nil || got == "have" {
		return err
	}
	if err := journalAnswer(got); err != nil {
		return err
	}
	if err := s.putPieces(ctx, id, "b "+name, body); err != nil {
		return err
	}
	if got, err = ask("add"); err != nil || got == "have" {
		return err
	}
	return journalAnswer(got)
}

// Blob implements sessions.JournalStore.
func (s *Store) Blob(ctx context.Context, id sessions.ID, name string) ([]byte, error) {
	value, err := s.rdb.HGet(ctx, s.keys.journal(id), "b "+name).Result()
	if errors.Is(err, redis.Nil) {
		return nil, sessions.ErrNotFound
	}
	if err != nil {
		return nil, unavailable(err)
	}
	size, _, _ := strings.Cut(value, " ")
	return s.getPieces(ctx, id, "b "+name, size)
}

func pieces(size int) int { return (size + pieceBytes - 1) / pieceBytes }

// putPieces writes a body a command at a time, each with the timeout of one.
func (s *Store) putPieces(ctx context.Context, id sessions.ID, name string, body []byte) error {
	keys := []string{s.keys.session(id), s.keys.parts(id)}
	for i := range pieces(len(body)) {
		piece := body[i*pieceBytes : min(len(body), (i+1)*pieceBytes)]
		got, err := putPiece.Run(ctx, s.rdb, keys, name+" "+strconv.Itoa(i), piece).Text()
		if err != nil {
			return unavailable(err)
		}
		if err := journalAnswer(got); err != nil {
			return err
		}
	}
	return nil
}

// dropPieces tidies up; what fails goes with the close.
func (s *Store) dropPieces(ctx context.Context, id sessions.ID, name string, size int) {
	for i := range pieces(size) {
		s.rdb.HDel(ctx, s.keys.parts(id), name+" "+strconv.Itoa(i))
	}
}

func (s *Store) getPieces(ctx context.Context, id sessions.ID, name, size string) ([]byte, error) {
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("journal of session %s: size %q", id, size)
	}
	body := make([]byte, 0, n)
	for i := range pieces(n) {
		piece, err := s.rdb.HGet(ctx, s.keys.parts(id), name+" "+strconv.Itoa(i)).Bytes()
		if errors.Is(err, redis.Nil) {
			return nil, sessions.ErrNotFound
		}
		if err != nil {
			return nil, unavailable(err)
		}
		body = append(body, piece...)
	}
	if len(body) != n {
		return nil, sessions.ErrNotFound
	}
	return body, nil
}

// journalAnswer reads the word of a script.
func journalAnswer(word string) error {
	switch word {
	case "done":
		return nil
	case "missing":
		return sessions.ErrNotFound
	case "closed":
		return sessions.ErrClosed
	case "full":
		return sessions.ErrJournalFull
	}
	return fmt.Errorf("journal script: unknown answer %q", word)
}
