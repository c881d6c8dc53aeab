package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// The examples of RFC 7638, 3.1 and RFC 8037, A.2 and A.3.
const (
	rfc7638N = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	rfc7638  = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	rfc8037X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	rfc8037  = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
)

func TestThumbprint(t *testing.T) {
	keys, err := parseJWKS([]byte(`{"keys":[
		{"kty":"RSA","e":"AQAB","alg":"RS256","kid":"2011-04-29","n":"` + rfc7638N + `"},
		{"kty":"OKP","crv":"Ed25519","kid":"x","x":"` + rfc8037X + `"}]}`))
	ok(t, err)
	for i, want := range []string{rfc7638, rfc8037} {
		if got, err := thumbprint(keys[i].public); err != nil || got != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}

// An EC thumbprint against the members of the JWK, put together by hand.
func TestThumbprintOfEC(t *testing.T) {
	key, err := GenerateSigningKey(ES256)
	ok(t, err)
	j := jwkOf(t, "", key.private.Public())
	keys, err := parseJWKS(jwks(t, j.with(members{"kid": "x"})))
	ok(t, err)
	if got, err := thumbprint(keys[0].public); err != nil || got != key.KeyID() {
		t.Errorf("got %s, %v; want %s", got, err, key.KeyID())
	}
}

// jwkOf is the public key as a member of a JWKS.
func jwkOf(t testing.TB, kid string, public crypto.PublicKey) members {
	t.Helper()
	j := members{"kid": kid}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		ok(t, err)
		half := len(point) / 2
		j["kty"], j["crv"] = "EC", p.Curve.Params().Name
		j["x"], j["y"] = encodeSegment(point[1:1+half]), encodeSegment(point[1+half:])
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", encodeSegment(p)
	case *rsa.PublicKey:
		j["kty"], j["n"] = "RSA", encodeSegment(p.N.Bytes())
		j["e"] = encodeSegment(big.NewInt(int64(p.E)).Bytes())
	default:
		t.Fatalf("%T", public)
	}
	return j
}

func jwks(t testing.TB, keys ...members) []byte {
	t.Helper()
	b, err := json.Marshal(members{"keys": keys})
	ok(t, err)
	return b
}

func TestParseJWKS(t *testing.T) {
	k := newKit(t)
	ec := jwkOf(t, "ec", k.es256.private.Public())
	ed := jwkOf(t, "ed", k.eddsa.private.Public())
	rs := jwkOf(t, "rs", k.rs256.private.Public())
	weak := jwkOf(t, "weak", rsaWeakKey().Public())
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ok(t, err)

	tests := []struct {
		name string
		keys []members
		kids []string
		err  string // part of the message; "" = none
	}{
		{"one of each", []members{ec, ed, rs}, []string{"ec", "ed", "rs"}, ""},
		{"none", nil, nil, ""},
		{"marked for signatures", []members{ec.with(members{"use": "sig", "alg": "ES256", "key_ops": []string{"verify"}})}, []string{"ec"}, ""},
		{"kid is a path", []members{ec.with(members{"kid": "../x"})}, []string{"../x"}, ""},

		{"passes over encryption keys", []members{ec.with(members{"use": "enc"}), ed}, []string{"ed"}, ""},
		{"passes over keys for other work", []members{ec.with(members{"key_ops": []string{"deriveKey"}}), ed}, []string{"ed"}, ""},
		{"passes over RS512", []members{rs.with(members{"alg": "RS512"}), ed}, []string{"ed"}, ""},
		{"passes over PS256", []members{rs.with(members{"alg": "PS256"}), ed}, []string{"ed"}, ""},
		{"passes over an RSA key marked HS256", []members{rs.with(members{"alg": "HS256"}), ed}, []string{"ed"}, ""},
		{"passes over P-384", []members{jwkOf(t, "x", p384.Public()), ed}, []string{"ed"}, ""},
		{"passes over X25519", []members{ed.with(members{"crv": "X25519"}), ec}, []string{"ec"}, ""},
		{"passes over unknown types", []members{{"kty": "AKP", "kid": "x", "pub": "AA"}, ed}, []string{"ed"}, ""},

		{"secret key", []members{ed.with(members{"d": "AAAA"})}, nil, "secret"},
		{"symmetric key", []members{{"kty": "oct", "kid": "x", "k": "AAAA"}}, nil, "secret"},
		{"no kid", []members{ec.with(members{"kid": nil})}, nil, "kid"},
		{"long kid", []members{ec.with(members{"kid": strings.Repeat("k", 257)})}, nil, "kid"},
		{"weak RSA key", []members{weak}, nil, "1024 bits"},
		{"RSA exponent 1", []members{rs.with(members{"e": "AQ"})}, nil, "exponent"},
		{"RSA exponent even", []members{rs.with(members{"e": "AQAA"})}, nil, "exponent"},
		{"RSA exponent huge", []members{rs.with(members{"e": strings.Repeat("_", 12)})}, nil, "n or e"},
		{"RSA modulus huge", []members{rs.with(members{"n": strings.Repeat("_", 8192)})}, nil, "49152 bits"},
		{"RSA modulus missing", []members{rs.with(members{"n": nil})}, nil, "n or e"},
		{"point off the curve", []members{ec.with(members{"x": ec["y"]})}, nil, "P-256"},
		{"point at infinity", []members{ec.with(members{"x": "", "y": ""})}, nil, "P-256"},
		{"point with padding", []members{ec.with(members{"x": ec["x"].(string) + "="})}, nil, "P-256"},
		{"Ed25519 key cut short", []members{ed.with(members{"x": "AAAA"})}, nil, "length"},
		{"good key before a broken one", []members{ed, weak}, nil, "key 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := parseJWKS(jwks(t, tt.keys...))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			ok(t, err)
			var kids []string
			for _, k := range keys {
				kids = append(kids, k.kid)
			}
			if !slices.Equal(kids, tt.kids) {
				t.Errorf("got %v, want %v", kids, tt.kids)
			}
		})
	}
}

func TestParseJWKSRefusesOtherJSON(t *testing.T) {
	for _, s := range []string{"", "{", `{"keys":{}}`, `{"keys":[1]}`, `[]`, `{"keys":[]} {}`} {
		if keys, err := parseJWKS([]byte(s)); err == nil {
			t.Errorf("%q: got %v", s, keys)
		}
	}
}

// Whatever a key file holds, reading it ends in usable keys or an error.
func FuzzKeyFile(f *testing.F) {
	k := newKit(f)
	f.Add(jwks(f, jwkOf(f, "a", k.es256.private.Public()), jwkOf(f, "b", k.rs256.private.Public())))
	f.Add(publicPEM(f, k.eddsa.private.Public()))
	f.Add(append(publicPEM(f, k.es256.private.Public()), "-----BEGIN PUBLIC KEY-----\n"...))
	f.Add(privatePEM(f, "PRIVATE KEY", k.es256))
	f.Add(privatePEM(f, "EC PRIVATE KEY", k.es256))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := (&keyFile{path: "f", mode: 0o600, data: data}).publicKeys()
		if err != nil {
			return
		}
		for _, key := range keys {
			if key.kid == "" || !key.alg.known() {
				t.Fatalf("key %+v", key)
			}
			if key.method().Verify("text", make([]byte, 64), key.public) == nil {
				t.Fatalf("key %q takes an empty signature", key.kid)
			}
		}
	})
}
