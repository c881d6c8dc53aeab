package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// defaultOutsideCache is how many tokens of one outside issuer are remembered:
// at most 16 MiB, about 2 MiB as they mostly are.
const defaultOutsideCache = 1024

// TrustConfig says which outside issuer is believed, and what its tokens say.
type TrustConfig struct {
	// Issuer is the exact iss of its tokens. Required.
	Issuer string
	// Audience must be among their aud. Required: a token that was made for
	// another service must not open this one.
	Audience string
	// Keys are its public keys. Required.
	Keys *PublishedKeys
	// Claims says where its tokens have what. Org there or Org below is required.
	Claims ClaimNames
	// Org is the organisation of all its subjects; "" = Claims.Org says it.
	Org string
	// AdminRoles are the roles that make an administrator of the organisation;
	// nil = none does.
	AdminRoles []string
	// DataPath: its tokens open their subject's sessions, not only the control API.
	DataPath bool
	// Leeway is how far its clock may differ from ours. Zero = 30 s; at most 5 min.
	Leeway time.Duration
	// CacheSize is how many verified tokens are remembered. Zero = 1024;
	// negative = none.
	CacheSize int
	// Now is the wall clock. Nil = time.Now.
	Now func() time.Time
}

// Trust is an outside issuer whose tokens are believed. Any number of goroutines
// may use it.
type Trust struct {
	cfg   TrustConfig
	cache *tokenCache // nil = none
}

// NewTrust checks cfg and builds a Trust. It fetches nothing.
func NewTrust(cfg TrustConfig) (*Trust, error) {
	switch {
	case cfg.Issuer == "":
		return nil, errors.New("trust: issuer is empty: set it to the iss of the tokens")
	case cfg.Audience == "":
		return nil, fmt.Errorf("trust in %s: audience is empty: set it to the aud of the tokens", cfg.Issuer)
	case cfg.Keys == nil:
		return nil, fmt.Errorf("trust in %s: no keys: make a set with NewPublishedKeys", cfg.Issuer)
	case (cfg.Org == "") == (cfg.Claims.Org == ""):
		return nil, fmt.Errorf("trust in %s: set either the organisation or the claim that names it", cfg.Issuer)
	case len(cfg.AdminRoles) > 0 && cfg.Claims.Roles == "":
		return nil, fmt.Errorf("trust in %s: admin roles need the claim that has the roles", cfg.Issuer)
	case cfg.Leeway < 0 || cfg.Leeway > maxLeeway:
		return nil, fmt.Errorf("trust in %s: leeway %v is out of bounds: choose 0 to %v", cfg.Issuer, cfg.Leeway, maxLeeway)
	}
	if problem := checkName(cfg.Org); cfg.Org != "" && problem != "" {
		return nil, fmt.Errorf("trust in %s: organisation %s", cfg.Issuer, problem)
	}
	if cfg.Claims.Subject == "" {
		cfg.Claims.Subject = "sub"
	}
	if cfg.Leeway == 0 {
		cfg.Leeway = defaultLeeway
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	t := &Trust{cfg: cfg}
	switch {
	case cfg.CacheSize == 0:
		t.cache = newTokenCache(defaultOutsideCache)
	case cfg.CacheSize > 0:
		t.cache = newTokenCache(cfg.CacheSize)
	}
	return t, nil
}

// Issuer is the iss that the trust is in.
func (t *Trust) Issuer() string { return t.cfg.Issuer }

// Verify returns who a token of the issuer speaks for. The Identity is shared
// and must not be changed. It never blocks: ErrKeysPending and ErrIssuerAway say
// that the issuer's keys are not there (yet).
func (t *Trust) Verify(token string) (*Identity, error) {
	if id, ok, err := t.recall(token); ok {
		return id, err
	}
	return t.verify(token)
}

// recall is Verify for a token that is remembered; ok says whether it is.
func (t *Trust) recall(token string) (id *Identity, ok bool, err error) {
	if len(token) > MaxOutsideBytes {
		return nil, false, nil // before it is hashed
	}
	e := t.cache.get(token)
	if e == nil || e.key.retired.Load() {
		return nil, false, nil
	}
	if err := e.id.checkTime(t.cfg.Now(), t.cfg.Leeway); err != nil {
		return nil, true, err
	}
	return &e.id, true, nil
}

// verify goes from cheap to dear, as Verifier.verify does: header, key,
// signature, and only then the claims.
func (t *Trust) verify(token string) (*Identity, error) {
	parts, err := splitTokenOf(token, MaxOutsideBytes)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(parts.header, KindOutside)
	if err != nil {
		return nil, err
	}
	key := t.cfg.Keys.lookup(h.kid)
	if key == nil {
		return nil, t.cfg.Keys.missing()
	}
	if err := key.verify(h, parts); err != nil {
		return nil, err
	}
	claims, err := decodeSegment(parts.claims)
	if err != nil {
		return nil, err
	}
	id, err := t.cfg.parseClaims(claims)
	if err != nil {
		return nil, err
	}
	now := t.cfg.Now()
	if err := id.checkTime(now, t.cfg.Leeway); err != nil {
		return nil, err
	}
	e := &cacheEntry{token: strings.Clone(token), id: *id, key: key}
	t.cache.put(e, now)
	return &e.id, nil
}

// issuerOf reads the iss of a token of which nothing is believed yet, to choose
// whose keys to hold it against; "" = it cannot be read.
func issuerOf(token string) string {
	parts, err := splitTokenOf(token, MaxOutsideBytes)
	if err != nil {
		return ""
	}
	b, err := decodeSegment(parts.claims)
	if err != nil {
		return ""
	}
	o, err := parseObject(b, []string{"iss"})
	if err != nil {
		return ""
	}
	iss, err := o.text("iss")
	if err != nil {
		return ""
	}
	return iss
}
