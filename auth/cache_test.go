package auth

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// breakSignatures makes each later signature check of a kit's tokens fail, but leaves
// the key in the set: only what is remembered is still taken.
func (k *kit) breakSignatures(key *SigningKey) {
	other, err := GenerateSigningKey(key.Algorithm())
	ok(k, err)
	key.public.public = other.public.public
}

func TestRepeatedTokenNeedsNoSignatureCheck(t *testing.T) {
	k := newKit(t)
	token, want := k.mint(k.es256, sessionGrant())
	first, err := k.verifier.Verify(token, KindSession)
	ok(t, err)
	k.breakSignatures(k.es256)
	again, err := k.verifier.Verify(strings.Clone(token), KindSession)
	if err != nil || again != first || *again != *want {
		t.Errorf("got %+v, %v; want %+v", again, err, want)
	}
	other, _ := k.mint(k.es256, sessionGrant())
	if _, err := k.verifier.Verify(other, KindSession); !errors.Is(err, ErrSignature) {
		t.Errorf("signatures are not broken: %v", err)
	}
}

func TestRepeatedTokenAllocatesNothing(t *testing.T) {
	k := newKit(t, func(cfg *VerifierConfig) { cfg.Now = nil })
	i, err := NewIssuer(IssuerConfig{Key: k.es256, Issuer: testIssuer})
	ok(t, err)
	token, _, err := i.Issue(sessionGrant())
	ok(t, err)
	n := testing.AllocsPerRun(1000, func() {
		if _, err := k.verifier.Verify(token, KindSession); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCacheTurnedOff(t *testing.T) {
	k := newKit(t, func(cfg *VerifierConfig) { cfg.CacheSize = -1 })
	token, _ := k.mint(k.es256, sessionGrant())
	_, err := k.verifier.Verify(token, KindSession)
	ok(t, err)
	k.breakSignatures(k.es256)
	if _, err := k.verifier.Verify(token, KindSession); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v, want the signature checked again", err)
	}
}

func (c *tokenCache) tokens() map[string]int {
	held := make(map[string]int)
	for i := range c.sets {
		for j := range c.sets[i].ways {
			if e := c.sets[i].ways[j].Load(); e != nil {
				held[e.token]++
			}
		}
	}
	return held
}

// An attacker who sends tokens that fail at any step must not get a byte into
// the cache.
func TestRefusedTokensAreNotRemembered(t *testing.T) {
	k := newKit(t)
	good := k.signed(nil, nil)
	for _, token := range []string{
		withSignature(good, make([]byte, 64)),
		k.signed(nil, members{"sub": ""}),
		k.signed(nil, members{"exp": noon().Add(-time.Hour).Unix(), "iat": noon().Add(-2 * time.Hour).Unix()}),
		k.signed(nil, members{"nbf": noon().Add(time.Hour).Unix()}),
		k.signed(members{"typ": "x"}, nil),
		"aa.bb.cc",
	} {
		if _, err := k.verifier.Verify(token, KindSession); err == nil {
			t.Fatal("taken")
		}
	}
	if held := k.verifier.cache.tokens(); len(held) != 0 {
		t.Errorf("%d tokens remembered", len(held))
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newTokenCache(100)
	key := &publicKey{}
	for i := range 5000 {
		c.put(entryFor(fmt.Sprint("token ", i), key), noon())
	}
	held := c.tokens()
	if len(held) > 104 || len(held) < 90 {
		t.Errorf("%d tokens held by a cache for 100", len(held))
	}
	for token, times := range held {
		if times != 1 {
			t.Errorf("%q is there %d times", token, times)
		}
	}
}

func TestCacheHoldsATokenOnce(t *testing.T) {
	c := newTokenCache(8)
	for range 3 {
		c.put(entryFor("a", &publicKey{}), noon())
	}
	if held := c.tokens(); held["a"] != 1 {
		t.Errorf("held %v", held)
	}
}

// The hash finds a place, the whole token decides: two tokens of one hash are
// still two.
func TestCacheComparesTheWholeToken(t *testing.T) {
	c := newTokenCache(8)
	e := entryFor("one", &publicKey{})
	c.put(e, noon())
	e.hash = maphash.String(c.seed, "another")
	if got := c.get("another"); got != nil {
		t.Errorf("got the entry of %q", got.token)
	}
}

// Somebody who mints a token after another displaces their own, not one that is
// in use.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newTokenCache(8)
	key := &publicKey{}
	c.put(entryFor("in use", key), noon())
	for i := range 1000 {
		if c.get("in use") == nil {
			t.Fatalf("gone after %d others", i)
		}
		c.put(entryFor(fmt.Sprint("other ", i), key), noon())
	}
}

func TestCacheFillsDeadPlacesFirst(t *testing.T) {
	tests := []struct {
		name string
		kill func(*cacheEntry)
	}{
		{"expired", func(e *cacheEntry) { e.id.Expires = noon() }},
		{"key retired", func(e *cacheEntry) { e.key = &publicKey{}; e.key.retired.Store(true) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newTokenCache(8)
			for i := range waysPerSet {
				e := entryFor(fmt.Sprint("token ", i), &publicKey{})
				if i == 5 {
					tt.kill(e)
				}
				c.put(e, noon())
			}
			c.put(entryFor("new", &publicKey{}), noon())
			held := c.tokens()
			if held["new"] != 1 || held["token 5"] != 0 || len(held) != waysPerSet {
				t.Errorf("held %v", held)
			}
		})
	}
}

func entryFor(token string, key *publicKey) *cacheEntry {
	return &cacheEntry{token: token, key: key, id: Identity{Expires: noon().Add(time.Hour)}}
}

// A remembered token must not keep alive the request buffer that it was cut
// out of.
func TestCacheOwnsItsTokens(t *testing.T) {
	k := newKit(t)
	token, _ := k.mint(k.es256, sessionGrant())
	sent := ("Bearer " + token)[len("Bearer "):]
	_, err := k.verifier.Verify(sent, KindSession)
	ok(t, err)
	e := k.verifier.cache.get(token)
	if e == nil {
		t.Fatal("not remembered")
	}
	if unsafe.StringData(e.token) == unsafe.StringData(sent) {
		t.Error("the cache holds the caller's bytes")
	}
}

// Readers, writers and the retiring of keys at once, for the race detector.
func TestVerifyConcurrently(t *testing.T) {
	k := newKit(t, func(cfg *VerifierConfig) { cfg.CacheSize = 16 })
	path := writeFile(t, "a.pem", 0o644, publicPEM(t, k.es256.private.Public()))
	other := publicPEM(t, k.rs256.private.Public())
	keys, err := NewKeySet(KeySetConfig{Files: []string{path}, Own: []*SigningKey{k.eddsa}})
	ok(t, err)
	k.verifier.keys = keys
	tokens := make([]string, 32)
	for i := range tokens {
		tokens[i], _ = k.mint(k.eddsa, sessionGrant())
	}
	coming, _ := k.mint(k.es256, sessionGrant())

	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := k.verifier.Verify(tokens[i%len(tokens)], KindSession); err != nil {
					t.Error(err)
				}
				if _, err := k.verifier.Verify(coming, KindSession); err != nil && !errors.Is(err, ErrUnknownKey) {
					t.Error(err)
				}
			}
		})
	}
	first := publicPEM(t, k.es256.private.Public())
	for i := range 50 {
		rewriteFile(t, path, 0o644, [][]byte{other, first}[i%2])
		if err := keys.Reload(); err != nil {
			t.Error(err)
		}
	}
	stop()
	done.Wait()
}
