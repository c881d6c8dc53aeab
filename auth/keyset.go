package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const defaultKeyInterval = 10 * time.Second

// KeySetConfig says where the keys come from. At least one key must come of it.
type KeySetConfig struct {
	// Files are PEM files (PKIX public keys; PKCS #8 or SEC 1 private keys, mode
	// 0600, of which the public half is taken) and JWKS files. The kid of a PEM
	// key is its RFC 7638 thumbprint. Nil = none.
	Files []string
	// Own are keys of our own Issuer that are in no file. They stay in the set as
	// long as it lives. Nil = none.
	Own []*SigningKey
	// Interval is how often Run reads the files again; a key that was taken out
	// is dead after that long at most. Zero = 10 s.
	Interval time.Duration
	// Logger hears of changes and of faulty files. Nil = silence.
	Logger *zap.Logger
}

// KeySet holds the public keys whose tokens are believed, by kid. Any number of
// goroutines may use it.
type KeySet struct {
	files    []string
	own      []*publicKey
	interval time.Duration
	log      *zap.Logger

	keyTable

	mu     sync.Mutex // held by Reload
	digest [sha256.Size]byte
}

// NewKeySet reads the keys once. It starts nothing: call Run to follow changes.
func NewKeySet(cfg KeySetConfig) (*KeySet, error) {
	if cfg.Interval < 0 {
		return nil, fmt.Errorf("key set: interval %v is negative: choose 0 for %v", cfg.Interval, defaultKeyInterval)
	}
	s := &KeySet{files: slices.Clone(cfg.Files), interval: cfg.Interval, log: cfg.Logger}
	for _, k := range cfg.Own {
		if k == nil {
			return nil, errors.New("key set: one of its own keys is nil: load it first")
		}
		s.own = append(s.own, k.public)
	}
	if s.interval == 0 {
		s.interval = defaultKeyInterval
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	s.keyTable.init()
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Run reads the files again at every interval until ctx ends, then returns nil.
// A fault is logged once, not at every interval.
func (s *KeySet) Run(ctx context.Context) error {
	tick := time.NewTicker(s.interval)
	defer tick.Stop()
	fault := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := s.Reload()
		if err == nil {
			fault = ""
			continue
		}
		if text := err.Error(); text != fault {
			fault = text
			s.log.Warn("keys not reloaded, the last good ones stay", zap.Error(err))
		}
	}
}

// Reload reads the files now. If any of them is faulty or no key would be left,
// it returns the reason and the set stays as it was. Keys that are no longer
// there are dead when Reload returns, together with every remembered token that
// they signed; keys that stay keep theirs.
func (s *KeySet) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, digest, err := s.read()
	if err != nil {
		return fmt.Errorf("key set: %w", err)
	}
	if digest == s.digest {
		return nil
	}
	next, err := s.build(files)
	if err != nil {
		return fmt.Errorf("key set: %w", err)
	}
	added, removed := s.replace(next)
	s.log.Info("keys loaded", zap.Int("keys", len(next)), zap.Strings("added", added), zap.Strings("removed", removed))
	s.digest = digest
	return nil
}

// read reads every file, and a digest of all that was read. Content decides, not
// a time stamp: two writes within one tick of a file system's clock look alike.
func (s *KeySet) read() ([]*keyFile, [sha256.Size]byte, error) {
	h := sha256.New()
	files := make([]*keyFile, 0, len(s.files))
	for _, path := range s.files {
		f, err := readKeyFile(path)
		if err != nil {
			return nil, [sha256.Size]byte{}, err
		}
		fmt.Fprintf(h, "%d %o\n", len(f.data), f.mode)
		h.Write(f.data)
		files = append(files, f)
	}
	return files, [sha256.Size]byte(h.Sum(nil)), nil
}

func (s *KeySet) build(files []*keyFile) (map[string]*publicKey, error) {
	all := slices.Clone(s.own)
	for _, f := range files {
		keys, err := f.publicKeys()
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	if len(all) == 0 {
		return nil, errors.New("no key that verifies tokens: name a PEM or JWKS file with a P-256, Ed25519 or RSA key")
	}
	next := make(map[string]*publicKey, len(all))
	for _, k := range all {
		if other := next[k.kid]; other == nil {
			next[k.kid] = k
		} else if !other.same(k) {
			return nil, fmt.Errorf("two different keys have the kid %q: give one of them another", k.kid)
		}
	}
	return next, nil
}
