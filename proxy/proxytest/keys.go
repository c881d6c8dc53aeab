package proxytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/auth"
)

// TokenIssuer is the iss of every token that Keys makes.
const TokenIssuer = "https://sconce.test"

// Keys is one ES256 key pair and everything of package auth around it. It
// makes good tokens through auth.Issuer and any others by hand.
type Keys struct {
	// Path is the key's PEM file.
	Path     string
	Key      *auth.SigningKey
	Set      *auth.KeySet
	Issuer   *auth.Issuer
	Verifier *auth.Verifier

	t       testing.TB
	private *ecdsa.PrivateKey
	now     func() time.Time
}

// NewKeys makes a key pair for one test; now may be nil for time.Now.
func NewKeys(t testing.TB, now func() time.Time) *Keys {
	t.Helper()
	if now == nil {
		now = time.Now
	}
	k := &Keys{t: t, now: now, Path: filepath.Join(t.TempDir(), "key.pem")}
	var err error
	k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.must(err)
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	k.must(err)
	k.must(os.WriteFile(k.Path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	k.Key, err = auth.LoadSigningKey(k.Path)
	k.must(err)
	k.Set, err = auth.NewKeySet(auth.KeySetConfig{Files: []string{k.Path}})
	k.must(err)
	k.Issuer, err = auth.NewIssuer(auth.IssuerConfig{Key: k.Key, Issuer: TokenIssuer, Now: now})
	k.must(err)
	k.Verifier, err = auth.NewVerifier(auth.VerifierConfig{Keys: k.Set, Issuer: TokenIssuer, Now: now})
	k.must(err)
	return k
}

func (k *Keys) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatalf("keys: %v", err)
	}
}

// Session is a good token of subject, in organisation "acme", for one session.
func (k *Keys) Session(sid, subject string) string {
	k.t.Helper()
	token, _, err := k.Issuer.Issue(auth.Grant{Kind: auth.KindSession, Subject: subject, Org: "acme", Session: sid})
	k.must(err)
	return token
}

// Control is a good token for the control API, in organisation "acme".
func (k *Keys) Control(subject string, admin bool) string {
	k.t.Helper()
	token, _, err := k.Issuer.Issue(auth.Grant{Kind: auth.KindControl, Subject: subject, Org: "acme", Admin: admin})
	k.must(err)
	return token
}

// Header is the JOSE header of a session token.
func (k *Keys) Header() map[string]any {
	return map[string]any{"alg": "ES256", "kid": k.Key.KeyID(), "typ": "spark-session+jwt"}
}

// Claims are those of a session token that was issued now for one hour.
func (k *Keys) Claims(sid, subject string) map[string]any {
	now := k.now().Unix()
	return map[string]any{
		"iss": TokenIssuer, "aud": "sconce-session", "sub": subject, "sid": sid, "org": "acme",
		"jti": "jti-" + rand.Text(), "iat": now, "nbf": now, "exp": now + 3600,
	}
}

// Change returns m with pairs of name and value set; the value nil takes the name out.
func Change(m map[string]any, pairs ...any) map[string]any {
	m = maps.Clone(m)
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		if pairs[i+1] == nil {
			delete(m, name)
			continue
		}
		m[name] = pairs[i+1]
	}
	return m
}

// JSON is m as text, to be doctored and given to SignText.
func JSON(m map[string]any) string {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // only a value that JSON has no form for
	}
	return string(b)
}

// Sign makes a token of any header and claims with the good key.
func (k *Keys) Sign(header, claims map[string]any) string {
	return k.SignText(JSON(header), JSON(claims))
}

// SignText is Sign of texts, which need not be JSON.
func (k *Keys) SignText(header, claims string) string {
	k.t.Helper()
	head := encode([]byte(header)) + "." + encode([]byte(claims))
	digest := sha256.Sum256([]byte(head))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	k.must(err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return head + "." + encode(signature)
}

// Expired is a token that ran out that long ago.
func (k *Keys) Expired(sid, subject string, ago time.Duration) string {
	exp := k.now().Add(-ago)
	return k.Sign(k.Header(), Change(k.Claims(sid, subject),
		"exp", exp.Unix(), "iat", exp.Add(-time.Hour).Unix(), "nbf", exp.Add(-time.Hour).Unix()))
}

// Unsigned is a token of alg none without a signature.
func (k *Keys) Unsigned(sid, subject string) string {
	header := JSON(Change(k.Header(), "alg", "none"))
	return encode([]byte(header)) + "." + encode([]byte(JSON(k.Claims(sid, subject)))) + "."
}

// Confused is a token of alg HS256 whose secret is the public key's PEM text.
func (k *Keys) Confused(sid, subject string) string {
	k.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(crypto.PublicKey(&k.private.PublicKey))
	k.must(err)
	secret := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	head := encode([]byte(JSON(Change(k.Header(), "alg", "HS256")))) + "." + encode([]byte(JSON(k.Claims(sid, subject))))
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(head))
	return head + "." + encode(mac.Sum(nil))
}

// Resigned is a token with this signature in place of its own.
func Resigned(token string, signature []byte) string {
	return token[:strings.LastIndexByte(token, '.')+1] + encode(signature)
}

// FlipLastBit changes a bit of a token's last character that a lax base64 decoder drops.
func FlipLastBit(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
