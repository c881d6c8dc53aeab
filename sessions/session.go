package sessions

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// ID names one session of Sconce for ever: "s-" and 26 characters of base32hex
// in lower case. Ids sort by the time they were made. An ID is a name, not a
// secret.
type ID string

// idEncoding keeps the order of the bytes, so ids sort as their time does.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

const (
	idPrefix = "s-"
	idBytes  = 16 // 6 of time in milliseconds, 10 random
)

// NewID makes an ID from the time now and ten bytes of random.
func NewID(now time.Time, random io.Reader) (ID, error) {
	var b [8 + idBytes - 6]byte // the time is written as 8 bytes, of which the first 2 are not used
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli()))
	if _, err := io.ReadFull(random, b[8:]); err != nil {
		return "", fmt.Errorf("new session id: %w", err)
	}
	return ID(idPrefix + idEncoding.EncodeToString(b[2:])), nil
}

// Valid says whether id has the form that NewID gives.
func (id ID) Valid() bool {
	_, ok := id.decode()
	return ok
}

// Time returns when id was made, to the millisecond, or the zero time if id is
// not valid.
func (id ID) Time() time.Time {
	b, ok := id.decode()
	if !ok {
		return time.Time{}
	}
	var ms [8]byte
	copy(ms[2:], b[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:])))
}

func (id ID) decode() (b [idBytes]byte, ok bool) {
	if len(id) != len(idPrefix)+idEncoding.EncodedLen(idBytes) || id[:len(idPrefix)] != idPrefix {
		return b, false
	}
	text := string(id[len(idPrefix):])
	n, err := idEncoding.Decode(b[:], []byte(text))
	// The decoder skips line breaks and the last bits: only one spelling is an id.
	return b, err == nil && n == idBytes && idEncoding.EncodeToString(b[:]) == text
}

// SparkID is Spark's own session id: a canonical lower-case UUID that the client
// chose, field 1 of every Spark Connect request.
type SparkID string

// ParseSparkID accepts the canonical lower-case form of a UUID and nothing else:
// some engines use the id as a path, and take an upper-case one for another
// session.
func ParseSparkID(s string) (SparkID, bool) {
	if len(s) != 36 {
		return "", false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return "", false
		}
	}
	return SparkID(s), true
}

// Session is a snapshot of one session's record.
type Session struct {
	ID ID
	// Name is what the owner calls it: 1 to 64 letters, digits, "-", "_" and
	// spaces; unique per owner while the session is not closed.
	Name string
	// Owner is the subject of the principal that created it, Org that
	// principal's organisation. Two owners are the same only if both agree.
	Owner, Org string
	// Cluster names the cluster that the session runs on. It never changes.
	Cluster string
	State   State
	// Reason says why the session is in its state, for its owner to read;
	// "" where there is nothing to say.
	Reason string
	// Generation grows by one each time the session becomes active; 0 before the
	// first time. Whoever acts on an older one is refused.
	Generation uint64
	// Revision grows by one with each change of the record, so that of two
	// snapshots the newer is known.
	Revision  uint64
	CreatedAt time.Time
	// ChangedAt is when State changed last.
	ChangedAt time.Time
	// ClosedAt is zero until the session is closed.
	ClosedAt time.Time
	// Catalog and Database are what its Spark sessions begin in, Conf what they
	// are configured with; "" = the engine's own. They never change.
	Catalog, Database string
	Conf              Pairs
	// IdleTimeout is how long it may be unused before it goes idle; 0 = it never does.
	IdleTimeout time.Duration
	// MaxAge is how long after CreatedAt it is closed; 0 = it is not.
	MaxAge time.Duration
	// Labels are the owner's own marks.
	Labels Pairs
	// Revoked is the ids of its tokens that were revoked before their time and
	// would still be good, with a space between; see IsRevoked. "" = none.
	Revoked string
	// Engine is the one that it runs on, or ran on last; nil = its cluster is an
	// address, or it never ran.
	Engine *Instance
	// EngineGeneration is the first generation that ran on it: what the engine began
	// with is known by it.
	EngineGeneration uint64
	// IdleAt is when it last became idle.
	IdleAt time.Time
	// UsedAt is when it was last used, to some seconds, by the registry's clock.
	UsedAt time.Time
	// Stage is what is being done to wake it, "" = nothing; WakeFailure is why the
	// last try failed, "" = it did not.
	Stage, WakeFailure string
	// StageAt is when that stage began, by the registry's clock; zero where there is none.
	StageAt time.Time
}

// engineID names the engine; "" = there is none.
func (s *Session) engineID() string {
	if s.Engine == nil {
		return ""
	}
	return s.Engine.ID
}
