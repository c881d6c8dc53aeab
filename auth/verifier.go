package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	defaultLeeway    = 30 * time.Second
	maxLeeway        = 5 * time.Minute
	defaultCacheSize = 8192
)

// VerifierConfig is what a Verifier needs.
type VerifierConfig struct {
	// Keys are the keys whose tokens are believed. Required.
	Keys *KeySet
	// Issuer is the exact iss of every token. Required.
	Issuer string
	// Audiences names the aud of each kind. The zero value has the defaults.
	Audiences Audiences
	// Leeway is how far the issuer's clock may differ from ours, for exp, nbf
	// and iat. Zero = 30 s; at most 5 min.
	Leeway time.Duration
	// MaxLifetime refuses tokens whose exp - iat is longer. Zero = no bound.
	MaxLifetime time.Duration
	// CacheSize is how many verified tokens are remembered, about 1 KiB each and
	// 5 KiB at worst. Twice the number of tokens in use keeps nearly all of them.
	// Zero = 8192; negative = none, each call checks the signature.
	CacheSize int
	// Now is the wall clock. Nil = time.Now.
	Now func() time.Time
}

// Verifier tells whether a token is genuine, current and ours. Any number of
// goroutines may use it.
type Verifier struct {
	keys   *KeySet
	rule   claimRule
	leeway time.Duration
	now    func() time.Time
	cache  *tokenCache // nil = none
}

// NewVerifier checks cfg and builds a Verifier. It starts nothing; keeping the
// keys fresh is KeySet.Run.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	switch {
	case cfg.Keys == nil:
		return nil, errors.New("verifier: no key set: make one with NewKeySet")
	case cfg.Issuer == "":
		return nil, errors.New("verifier: issuer is empty: set it to the iss of your tokens")
	case cfg.Audiences.of(KindSession) == cfg.Audiences.of(KindControl):
		return nil, errors.New("verifier: session and control tokens have the same audience: give them different ones")
	case cfg.Leeway < 0 || cfg.Leeway > maxLeeway:
		return nil, fmt.Errorf("verifier: leeway %v is out of bounds: choose 0 to %v", cfg.Leeway, maxLeeway)
	case cfg.MaxLifetime < 0:
		return nil, fmt.Errorf("verifier: max lifetime %v is negative: choose 0 for no bound", cfg.MaxLifetime)
	}
	v := &Verifier{
		keys:   cfg.Keys,
		rule:   claimRule{issuer: cfg.Issuer, audiences: cfg.Audiences, maxLifetime: cfg.MaxLifetime},
		leeway: cfg.Leeway,
		now:    cfg.Now,
	}
	if v.leeway == 0 {
		v.leeway = defaultLeeway
	}
	if v.now == nil {
		v.now = time.Now
	}
	switch {
	case cfg.CacheSize == 0:
		v.cache = newTokenCache(defaultCacheSize)
	case cfg.CacheSize > 0:
		v.cache = newTokenCache(cfg.CacheSize)
	}
	return v, nil
}

// Verify returns who the token speaks for, if it is a token of that kind. The
// Identity is shared between calls and must not be changed. Whether its session
// still exists and its jti was not revoked is for the caller to ask.
//
// A repeated token allocates nothing and takes no lock. Each error is one of
// the package's sentinels, or an *ExpiredError.
func (v *Verifier) Verify(token string, kind Kind) (*Identity, error) {
	if len(token) > MaxTokenBytes {
		return nil, ErrTooLong // before it is hashed
	}
	if id, ok, err := v.recall(token, kind); ok {
		return id, err
	}
	return v.verify(token, kind)
}

// Known says whether Verify remembers the token, and so costs next to nothing.
func (v *Verifier) Known(token string, kind Kind) bool {
	_, ok, _ := v.recall(token, kind)
	return ok
}

// recall is Verify for a token that is remembered; ok says whether it is.
func (v *Verifier) recall(token string, kind Kind) (id *Identity, ok bool, err error) {
	if len(token) > MaxTokenBytes {
		return nil, false, nil
	}
	e := v.cache.get(token)
	if e == nil || e.id.Kind != kind || e.key.retired.Load() {
		return nil, false, nil
	}
	if err := e.id.checkTime(v.now(), v.leeway); err != nil {
		return nil, true, err
	}
	return &e.id, true, nil
}

// verify is Verify without the cache in front: header, key, signature, and only
// then the claims.
func (v *Verifier) verify(token string, kind Kind) (*Identity, error) {
	parts, err := splitToken(token)
	if err != nil {
		return nil, err
	}
	key, err := v.checkSignature(parts, kind)
	if err != nil {
		return nil, err
	}
	claims, err := decodeSegment(parts.claims)
	if err != nil {
		return nil, err
	}
	id, err := v.rule.parseClaims(claims, kind)
	if err != nil {
		return nil, err
	}
	now := v.now()
	if err := id.checkTime(now, v.leeway); err != nil {
		return nil, err
	}
	e := &cacheEntry{token: strings.Clone(token), id: *id, key: key}
	v.cache.put(e, now)
	return &e.id, nil
}

// checkSignature returns the key that signed the token.
func (v *Verifier) checkSignature(parts compact, kind Kind) (*publicKey, error) {
	h, err := parseHeader(parts.header, kind)
	if err != nil {
		return nil, err
	}
	key := v.keys.lookup(h.kid)
	if key == nil {
		return nil, ErrUnknownKey
	}
	return key, key.verify(h, parts)
}

// verify says whether the key signed a token of that header.
func (k *publicKey) verify(h header, parts compact) error {
	if k.alg != h.alg {
		return fmt.Errorf("%w: its key is for another", ErrAlgorithm)
	}
	signature, err := decodeSegment(parts.signature)
	if err != nil {
		return err
	}
	if k.method().Verify(parts.signed, signature, k.public) != nil {
		return ErrSignature
	}
	return nil
}
