package auth

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testIssuer = "https://sconce.example"

// noon is what every clock of these tests says, unless it is moved.
func noon() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// The RSA keys take a second to make, so they are made once.
var (
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	rsaWeakKey = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(1024) })
)

func newRSA(bits int) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return k
}

// rsaSigner is a SigningKey as another issuer would have one.
func rsaSigner(t testing.TB) *SigningKey {
	public, err := newPublicKey("", rsaKey().Public())
	ok(t, err)
	return &SigningKey{private: rsaKey(), public: public}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kit is a verifier with one trusted key of each algorithm, and a clock.
type kit struct {
	testing.TB
	es256, eddsa, rs256 *SigningKey
	keys                *KeySet
	verifier            *Verifier
	now                 time.Time
}

func newKit(t testing.TB, change ...func(*VerifierConfig)) *kit {
	t.Helper()
	k := &kit{TB: t, rs256: rsaSigner(t), now: noon()}
	var err error
	k.es256, err = GenerateSigningKey(ES256)
	ok(t, err)
	k.eddsa, err = GenerateSigningKey(EdDSA)
	ok(t, err)
	k.keys, err = NewKeySet(KeySetConfig{Own: []*SigningKey{k.es256, k.eddsa, k.rs256}})
	ok(t, err)
	cfg := VerifierConfig{Keys: k.keys, Issuer: testIssuer, Now: func() time.Time { return k.now }}
	for _, c := range change {
		c(&cfg)
	}
	k.verifier, err = NewVerifier(cfg)
	ok(t, err)
	return k
}

func (k *kit) issuer(key *SigningKey) *Issuer {
	i, err := NewIssuer(IssuerConfig{Key: key, Issuer: testIssuer, Now: func() time.Time { return k.now }})
	ok(k, err)
	return i
}

func (k *kit) mint(key *SigningKey, g Grant) (string, *Identity) {
	k.Helper()
	token, id, err := k.issuer(key).Issue(g)
	ok(k, err)
	return token, id
}

func sessionGrant() Grant {
	return Grant{Kind: KindSession, Subject: "alice@acme.example", Org: "acme", Session: "s-1"}
}

func controlGrant() Grant {
	return Grant{Kind: KindControl, Subject: "alice@acme.example", Org: "acme", Admin: true}
}

// members are the members of a header or of claims; a nil value takes the
// member away.
type members map[string]any

func (m members) with(changes members) members {
	m = maps.Clone(m)
	for name, value := range changes {
		if value == nil {
			delete(m, name)
			continue
		}
		m[name] = value
	}
	return m
}

func (m members) json(t testing.TB) string {
	b, err := json.Marshal(m)
	ok(t, err)
	return string(b)
}

func headerOf(key *SigningKey) members {
	return members{"alg": key.Algorithm(), "kid": key.KeyID(), "typ": "spark-session+jwt"}
}

func claims() members {
	return members{
		"iss": testIssuer, "aud": "sconce-session", "sub": "alice@acme.example", "sid": "s-1",
		"org": "acme", "jti": "0123456789abcdef",
		"iat": noon().Unix(), "nbf": noon().Unix(), "exp": noon().Add(time.Hour).Unix(),
	}
}

// sign signs any bytes as header and claims, with the true key.
func sign(t testing.TB, key *SigningKey, header, claims string) string {
	t.Helper()
	signed := encodeSegment([]byte(header)) + "." + encodeSegment([]byte(claims))
	signature, err := key.public.method().Sign(signed, key.private)
	ok(t, err)
	return signed + "." + encodeSegment(signature)
}

// signed is a token with changes to header and claims.
func (k *kit) signed(changeHeader, changeClaims members) string {
	k.Helper()
	return sign(k, k.es256, headerOf(k.es256).with(changeHeader).json(k), claims().with(changeClaims).json(k))
}

// writeFile writes a file of that mode into a new directory.
func writeFile(t testing.TB, name string, mode os.FileMode, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	rewriteFile(t, path, mode, data)
	return path
}

func rewriteFile(t testing.TB, path string, mode os.FileMode, data []byte) {
	t.Helper()
	ok(t, os.WriteFile(path, data, mode))
	ok(t, os.Chmod(path, mode)) // whatever the umask
}

func publicPEM(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	ok(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
