package redisstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/sessions"
)

// Config says where Redis is and how long things are kept.
type Config struct {
	// Addresses are host:port: the server, the sentinels, or some cluster nodes.
	Addresses []string
	// Cluster: the addresses are nodes of a Redis Cluster.
	Cluster bool
	// Master is the name the sentinels know; "" = the addresses are no sentinels.
	Master string
	// Database is the number of the database; 0 in a cluster.
	Database int
	// Username and Password; "" = none.
	Username, Password string
	// TLS; nil = plaintext.
	TLS *tls.Config
	// DialTimeout bounds a connect, Timeout one read, one write and the wait for
	// a free connection. 0 = 200 ms.
	DialTimeout, Timeout time.Duration
	// PoolSize is the largest number of connections per node; 0 = ten per CPU.
	PoolSize int

	// Prefix begins every key; "" = "sconce".
	Prefix string
	// Keep is how long the record of a closed session stays. Its Spark ids stay
	// refused for a day longer. It must be longer than any token lives. 0 = 30 days.
	Keep time.Duration
	// MaxBound is how many Spark session ids one session may bind in its life.
	// 0 = 1,024.
	MaxBound int
	// MaxTokens is how many open tokens one session may have. 0 = 1,000.
	MaxTokens int
	// MaxOwnedTokens and MaxOrgTokens are how many open tokens one owner and one
	// organisation may have. 0 = no limit.
	MaxOwnedTokens, MaxOrgTokens int
	// MaxOwned and MaxInOrg are how many open sessions one owner and one
	// organisation may have. 0 = no limit.
	MaxOwned, MaxInOrg int
	// MaxOwnedEngines and MaxOrgEngines are how many engines one owner and one
	// organisation may have up, each for one session. 0 = no limit.
	MaxOwnedEngines, MaxOrgEngines int
	// MaxAudit is about how many entries the audit stream holds. 0 = 100,000.
	MaxAudit int64
	// MaxJournal bounds the journal of one Spark session, MaxJournals those of all Spark
	// sessions of one session together, MaxBlobs its artifacts, in bytes.
	// 0 = 16 MiB, 64 MiB, 64 MiB.
	MaxJournal, MaxJournals, MaxBlobs int
	// MaxEntries is how many entries the journal of one Spark session may have.
	// 0 = 4,096.
	MaxEntries int
	// MaxKeys is how many open API keys one organisation may have. 0 = 1,000.
	MaxKeys int
	// Now is the clock; nil = time.Now. Used only to tell old leftovers.
	Now func() time.Time
	// Logger; nil = none.
	Logger *zap.Logger
}

const (
	defaultTimeout  = 200 * time.Millisecond
	defaultKeep     = 30 * 24 * time.Hour
	defaultMaxBound = 1024
	defaultMaxToken = 1000
	defaultMaxAudit = 100_000
	defaultJournal  = 16 << 20
	defaultJournals = 64 << 20
	defaultBlobs    = 64 << 20
	defaultEntries  = 4096
	// bindingsOutlive is how much longer than its record a session's bindings
	// stay, so that none is free while its record could still be read.
	bindingsOutlive = 24 * time.Hour
	// requestsKept is how long a request id is remembered.
	requestsKept = 24 * time.Hour
)

// Store is the registry in Redis. Methods are safe for any goroutine.
type Store struct {
	rdb      redis.UniversalClient
	keys     keys
	keep     time.Duration
	maxBound int
	maxToken int
	maxOwned int
	maxInOrg int

	maxOwnedEngines, maxOrgEngines int
	maxOwnedTokens, maxOrgTokens   int

	// copied is how long a close waits until a replica of Redis has it; 0 = there is none.
	copied time.Duration

	maxAudit int64
	journal  journalCaps
	maxKeys  int
	now      func() time.Time
	log      *zap.Logger
}

var (
	_ sessions.Store      = (*Store)(nil)
	_ sessions.Directory  = (*Store)(nil)
	_ sessions.TokenStore = (*Store)(nil)
	_ sessions.WakeStore  = (*Store)(nil)
	_ sessions.Turns      = (*Store)(nil)
	_ sessions.Deadlines  = (*Store)(nil)
	_ sessions.AuditStore = (*Store)(nil)

	_ sessions.DrainStore   = (*Store)(nil)
	_ sessions.JournalStore = (*Store)(nil)
	_ sessions.CarriedStore = (*Store)(nil)
	_ sessions.KeyStore     = (*Store)(nil)
)

// New builds a Store. It connects when it is first used. Call Close at the end.
func New(c Config) (*Store, error) {
	if len(c.Addresses) == 0 {
		return nil, errors.New("redis store: no address")
	}
	if c.Cluster && (c.Master != "" || c.Database != 0) {
		return nil, errors.New("redis store: a cluster has no sentinel master and only database 0")
	}
	s := &Store{
		rdb:      redis.NewUniversalClient(options(c)),
		keys:     keys{prefix: "sconce"},
		keep:     defaultKeep,
		maxBound: defaultMaxBound,
		maxToken: defaultMaxToken,
		maxOwned: c.MaxOwned,
		maxInOrg: c.MaxInOrg,

		maxOwnedEngines: c.MaxOwnedEngines, maxOrgEngines: c.MaxOrgEngines,
		maxOwnedTokens: c.MaxOwnedTokens, maxOrgTokens: c.MaxOrgTokens,

		maxAudit: defaultMaxAudit,
		journal:  journalCaps{bytes: defaultJournal, all: defaultJournals, blobs: defaultBlobs, entries: defaultEntries},
		maxKeys:  defaultMaxKeys,
		now:      time.Now,
		log:      zap.NewNop(),
	}
	if c.Cluster || c.Master != "" {
		s.copied = cmp.Or(c.Timeout, defaultTimeout) / 2 // its answer has to come within one read
	}
	if c.Prefix != "" {
		s.keys.prefix = c.Prefix
	}
	if c.Keep > 0 {
		s.keep = c.Keep
	}
	if c.MaxBound > 0 {
		s.maxBound = c.MaxBound
	}
	if c.MaxTokens > 0 {
		s.maxToken = c.MaxTokens
	}
	if c.MaxAudit > 0 {
		s.maxAudit = c.MaxAudit
	}
	s.journal.set(c)
	if c.MaxKeys > 0 {
		s.maxKeys = c.MaxKeys
	}
	if c.Now != nil {
		s.now = c.Now
	}
	if c.Logger != nil {
		s.log = c.Logger
	}
	return s, nil
}

// options sets what matters against a slow or hung server: go-redis honours a
// context's deadline only if told to, and would wait seconds by default.
func options(c Config) *redis.UniversalOptions {
	dial, io := c.DialTimeout, c.Timeout
	if dial == 0 {
		dial = defaultTimeout
	}
	if io == 0 {
		io = defaultTimeout
	}
	return &redis.UniversalOptions{
		Addrs: c.Addresses, IsClusterMode: c.Cluster, MasterName: c.Master, DB: c.Database,
		Username: c.Username, Password: c.Password, TLSConfig: c.TLS,
		SentinelUsername: c.Username, SentinelPassword: c.Password,
		ContextTimeoutEnabled: true,
		DialTimeout:           dial, ReadTimeout: io, WriteTimeout: io, PoolTimeout: io,
		DialerRetries: 1, MaxRetries: 1, PoolSize: c.PoolSize,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Close closes the connections.
func (s *Store) Close() error { return s.rdb.Close() }

// Ping says whether Redis answers. ErrUnavailable.
func (s *Store) Ping(ctx context.Context) error { return unavailable(s.rdb.Ping(ctx).Err()) }

// Check is for the start: Redis must answer and must not be allowed to evict
// keys, since a lost binding or record is a lost session. A server that does not
// let its settings be read passes with a warning.
func (s *Store) Check(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	got, err := s.rdb.ConfigGet(ctx, "maxmemory-policy").Result()
	var said redis.Error // by the server, and not by the way to it
	if err != nil && !errors.As(err, &said) {
		return unavailable(err)
	}
	policy := got["maxmemory-policy"]
	if policy == "" {
		s.log.Warn("redis does not tell its maxmemory-policy: it must be noeviction", zap.Error(err))
		return nil
	}
	if policy != "noeviction" {
		return fmt.Errorf("redis may evict sessions (maxmemory-policy is %s): set it to noeviction", policy)
	}
	return nil
}

// unavailable marks whatever Redis or the way to it failed with. A caller that
// gave up is no failure of Redis.
func unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", sessions.ErrUnavailable, err)
}
