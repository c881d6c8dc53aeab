package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

// maxPublishedKeys is how many keys one issuer may publish. Real ones have two to ten.
const maxPublishedKeys = 100

// PublishedKeys are the public keys of an outside issuer. Somebody else fetches
// them (package openid does) and calls Replace. Any number of goroutines may use it.
type PublishedKeys struct {
	keyTable
	mu      sync.Mutex // held by Replace
	missing func() error
}

// NewPublishedKeys makes a set that holds no key yet. missing is asked about each
// token of a key that is not in it, and says what that means: ErrUnknownKey,
// ErrIssuerAway, or a *PendingError where the keys are just being fetched. It
// must not block. nil = ErrUnknownKey.
func NewPublishedKeys(missing func() error) *PublishedKeys {
	if missing == nil {
		missing = func() error { return ErrUnknownKey }
	}
	p := &PublishedKeys{missing: missing}
	p.keyTable.init()
	return p
}

// Replace takes the JWKS that the issuer publishes now. Keys that are no longer
// in it are dead when Replace returns, with every remembered token that they
// signed. Keys that sign no tokens here (other algorithms, no kid, weak, secret,
// or two of one kid) are passed over and counted: an issuer has them for others.
// A document that is no JWKS, or without any key that is left, changes nothing.
func (p *PublishedKeys) Replace(jwks []byte) (passedOver int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		return 0, errors.New(`not a JWKS: it must be {"keys": [...]}`)
	}
	if len(set.Keys) > maxPublishedKeys {
		return 0, fmt.Errorf("the JWKS holds %d keys: at most %d are taken", len(set.Keys), maxPublishedKeys)
	}
	next := make(map[string]*publicKey, len(set.Keys))
	twice := map[string]bool{}
	for _, raw := range set.Keys {
		k := publishedKey(raw)
		if k == nil {
			continue
		}
		if other := next[k.kid]; other != nil && !other.same(k) {
			twice[k.kid] = true
		}
		next[k.kid] = k
	}
	for kid := range twice {
		delete(next, kid)
	}
	if len(next) == 0 {
		return len(set.Keys), errors.New("the JWKS holds no key that verifies tokens here: it takes P-256, Ed25519 and RSA keys with a kid")
	}
	p.replace(next)
	return len(set.Keys) - len(next), nil
}

// publishedKey reads one key of a JWKS, or returns nil to pass it over. A key
// whose private part was published is nobody's any more.
func publishedKey(raw json.RawMessage) *publicKey {
	var j jwk
	if json.Unmarshal(raw, &j) != nil || j.D != "" || j.K != "" || !j.ours() {
		return nil
	}
	k, err := j.publicKey()
	if err != nil {
		return nil
	}
	return k
}
