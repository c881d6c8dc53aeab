package auth

import (
	"strings"
	"testing"
	"time"
)

// What every request of a known token pays.
func BenchmarkVerifyRepeated(b *testing.B) {
	k := newKit(b, func(cfg *VerifierConfig) { cfg.Now = nil })
	token := freshToken(b, k.es256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.verifier.Verify(token, KindSession); err != nil {
			b.Fatal(err)
		}
	}
}

// The same for a token of an outside issuer, and for one of ours beside it.
func BenchmarkPrincipalsRepeated(b *testing.B) {
	k := newTrustKit(b, func(cfg *TrustConfig) { cfg.Now = nil })
	k.verifier.now = time.Now
	p, err := NewPrincipals(k.verifier, k.trust)
	ok(b, err)
	now := time.Now().Unix()
	for name, token := range map[string]string{
		"ours": freshToken(b, k.es256), "outside": k.outsideToken(nil, members{"iat": now, "exp": now + 3600}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Verify(token, KindSession); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The same from all cores at once, over many tokens: nothing to wait for.
func BenchmarkVerifyRepeatedParallel(b *testing.B) {
	k := newKit(b, func(cfg *VerifierConfig) { cfg.Now = nil })
	tokens := make([]string, 1000)
	for i := range tokens {
		tokens[i] = freshToken(b, k.eddsa)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := k.verifier.Verify(tokens[i%len(tokens)], KindSession); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// What the first request of a token pays.
func BenchmarkVerifyFirst(b *testing.B) {
	k := newKit(b, func(cfg *VerifierConfig) { cfg.CacheSize = -1 })
	for _, key := range []*SigningKey{k.es256, k.eddsa, k.rs256} {
		token := sign(b, key, headerOf(key).json(b), claims().json(b))
		b.Run(string(key.Algorithm()), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.verifier.Verify(token, KindSession); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a bad token costs us, by where it fails.
func BenchmarkVerifyRefused(b *testing.B) {
	k := newKit(b)
	good := k.signed(nil, nil)
	for name, token := range map[string]string{
		"1 MiB of dots":   strings.Repeat(".", 1<<20),
		"malformed":       good + "=",
		"unknown kid":     k.signed(members{"kid": "x"}, nil),
		"wrong signature": swapClaims(good, claims().with(members{"sub": "mallory"}).json(b)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.verifier.Verify(token, KindSession); err == nil {
					b.Fatal("taken")
				}
			}
		})
	}
}

func BenchmarkIssue(b *testing.B) {
	k := newKit(b)
	for _, key := range []*SigningKey{k.es256, k.eddsa} {
		i := k.issuer(key)
		b.Run(string(key.Algorithm()), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := i.Issue(sessionGrant()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func freshToken(b *testing.B, key *SigningKey) string {
	b.Helper()
	i, err := NewIssuer(IssuerConfig{Key: key, Issuer: testIssuer})
	ok(b, err)
	token, _, err := i.Issue(sessionGrant())
	ok(b, err)
	return token
}
