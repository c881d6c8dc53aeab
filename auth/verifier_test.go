package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestVerifyTakesEachAlgorithm(t *testing.T) {
	k := newKit(t)
	want := &Identity{
		Kind: KindSession, Subject: "alice@acme.example", Org: "acme", Session: "s-1", TokenID: "0123456789abcdef",
		IssuedAt: noon(), NotBefore: noon(), Expires: noon().Add(time.Hour),
	}
	for _, key := range []*SigningKey{k.es256, k.eddsa, k.rs256} {
		t.Run(string(key.Algorithm()), func(t *testing.T) {
			token := sign(t, key, headerOf(key).json(t), claims().json(t))
			for _, which := range []string{"first", "remembered"} {
				id, err := k.verifier.Verify(token, KindSession)
				if err != nil || !reflect.DeepEqual(id, want) {
					t.Errorf("%s: got %+v, %v; want %+v", which, id, err, want)
				}
			}
		})
	}
}

func TestVerifyTakesHarmlessOddities(t *testing.T) {
	k := newKit(t)
	tests := []struct {
		name           string
		header, claims members
	}{
		{"unknown header member", members{"x5t": "abc", "cty": "JWT"}, nil},
		{"unknown claim", nil, members{"scope": "x", "nested": members{"a": 1}}},
		{"our audience alone in a list", nil, members{"aud": []string{"sconce-session"}}},
		{"subject in another script", nil, members{"sub": "Žofie Ångström 李"}},
		{"names as long as may be", nil, members{"sub": strings.Repeat("s", 256), "sid": strings.Repeat("i", 128)}},
		{"role in a session token", nil, members{"role": "admin"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := k.verifier.Verify(k.signed(tt.header, tt.claims), KindSession)
			if err != nil || id.Admin {
				t.Errorf("got %+v, %v", id, err)
			}
		})
	}
}

// Attacks J1, J2, J4 and J10 and rows 4-9 of the bad inputs: what stands
// outside the claims.
func TestVerifyRefusesForgery(t *testing.T) {
	k := newKit(t)
	good := k.signed(nil, nil)
	stranger, err := GenerateSigningKey(ES256)
	ok(t, err)
	hmacSigned := func(key []byte, kid string) string {
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(claims()))
		token.Header["typ"], token.Header["kid"] = "spark-session+jwt", kid
		s, err := token.SignedString(key)
		ok(t, err)
		return s
	}
	resigned := func(method jwt.SigningMethod, key any, h members) string {
		text := encodeSegment([]byte(h.json(t))) + "." + encodeSegment([]byte(claims().json(t)))
		s, err := method.Sign(text, key)
		ok(t, err)
		return text + "." + encodeSegment(s)
	}
	unsigned := func(h members) string {
		return encodeSegment([]byte(headerOf(k.es256).with(h).json(t))) + "." + encodeSegment([]byte(claims().json(t))) + "."
	}
	rawHeader := func(h string) string { return sign(t, k.es256, h, claims().json(t)) }
	kid := k.es256.KeyID()

	tests := []struct {
		name, token string
		err         error
	}{
		{"none, no signature", unsigned(members{"alg": "none"}), ErrMalformed},
		{"none, some signature", unsigned(members{"alg": "none"}) + "AAAA", ErrAlgorithm},
		{"None in other letters", unsigned(members{"alg": "nOnE"}) + "AAAA", ErrAlgorithm},
		{"empty alg", k.signed(members{"alg": ""}, nil), ErrAlgorithm},
		{"no alg", k.signed(members{"alg": nil}, nil), ErrAlgorithm},
		{"alg is a number", k.signed(members{"alg": 256}, nil), ErrAlgorithm},
		{"alg in lower case", k.signed(members{"alg": "es256"}, nil), ErrAlgorithm},
		{"HS256 keyed with the public key's PEM", hmacSigned(publicPEM(t, k.es256.private.Public()), kid), ErrAlgorithm},
		{"HS256 keyed with the RSA public key's PEM", hmacSigned(publicPEM(t, rsaKey().Public()), k.rs256.KeyID()), ErrAlgorithm},
		{"HS256 keyed with nothing", hmacSigned(nil, kid), ErrAlgorithm},
		{"PS256 by the true RSA key", resigned(jwt.SigningMethodPS256, rsaKey(), headerOf(k.rs256).with(members{"alg": "PS256"})), ErrAlgorithm},
		{"RS512 by the true RSA key", resigned(jwt.SigningMethodRS512, rsaKey(), headerOf(k.rs256).with(members{"alg": "RS512"})), ErrAlgorithm},
		{"RS256 for an EC key", k.signed(members{"alg": "RS256"}, nil), ErrAlgorithm},
		{"EdDSA for an EC key", k.signed(members{"alg": "EdDSA"}, nil), ErrAlgorithm},
		{"ES256 with the RSA key's kid", k.signed(members{"kid": k.rs256.KeyID()}, nil), ErrAlgorithm},

		{"by another key under our kid", sign(t, stranger, headerOf(k.es256).json(t), claims().json(t)), ErrSignature},
		{"by another key under its kid", sign(t, stranger, headerOf(stranger).json(t), claims().json(t)), ErrUnknownKey},
		{"r = s = 0", withSignature(good, make([]byte, 64)), ErrSignature},
		{"r = s = the order", withSignature(good, append(order().Bytes(), order().Bytes()...)), ErrSignature},
		{"all bits set", withSignature(good, []byte(strings.Repeat("\xff", 64))), ErrSignature},
		{"signature in DER", withSignature(good, derSignature(t, k.es256, good)), ErrSignature},
		{"signature cut by a byte", withSignature(good, signatureOf(t, good)[:63]), ErrSignature},
		{"signature longer by a byte", withSignature(good, append(signatureOf(t, good), 0)), ErrSignature},
		{"EdDSA, all zero", withSignature(sign(t, k.eddsa, headerOf(k.eddsa).json(t), claims().json(t)), make([]byte, 64)), ErrSignature},
		{"EdDSA, empty but for a byte", withSignature(sign(t, k.eddsa, headerOf(k.eddsa).json(t), claims().json(t)), []byte{0}), ErrSignature},
		{"RS256, padding only", withSignature(sign(t, k.rs256, headerOf(k.rs256).json(t), claims().json(t)), make([]byte, 256)), ErrSignature},
		{"claims changed", swapClaims(good, claims().with(members{"sub": "mallory"}).json(t)), ErrSignature},
		{"claims of no JSON, not signed", swapClaims(good, "{"), ErrSignature},

		{"crit", k.signed(members{"crit": []string{"x"}, "x": 1}, nil), ErrHeader},
		{"crit, empty", k.signed(members{"crit": []string{}}, nil), ErrHeader},
		{"crit naming exp", k.signed(members{"crit": []string{"exp"}}, nil), ErrHeader},
		{"b64 false", k.signed(members{"b64": false}, nil), ErrHeader},
		{"b64 true", k.signed(members{"b64": true}, nil), ErrHeader},
		{"enc", k.signed(members{"enc": "A128GCM"}, nil), ErrHeader},
		{"zip", k.signed(members{"zip": "DEF"}, nil), ErrHeader},
		{"x5c", k.signed(members{"x5c": []string{"MIIB"}}, nil), ErrHeader},
		{"no typ", k.signed(members{"typ": nil}, nil), ErrHeader},
		{"typ JWT", k.signed(members{"typ": "JWT"}, nil), ErrHeader},
		{"typ of a control token", k.signed(members{"typ": "sconce-control+jwt"}, nil), ErrHeader},
		{"typ in upper case", k.signed(members{"typ": "SPARK-SESSION+JWT"}, nil), ErrHeader},
		{"typ with application/", k.signed(members{"typ": "application/spark-session+jwt"}, nil), ErrHeader},
		{"typ is a list", k.signed(members{"typ": []string{"spark-session+jwt"}}, nil), ErrHeader},

		{"no kid", k.signed(members{"kid": nil}, nil), ErrUnknownKey},
		{"empty kid", k.signed(members{"kid": ""}, nil), ErrUnknownKey},
		{"kid is a number", k.signed(members{"kid": 1}, nil), ErrUnknownKey},
		{"kid is a path", k.signed(members{"kid": "../../../../etc/passwd"}, nil), ErrUnknownKey},
		{"kid is a device", k.signed(members{"kid": "/dev/null"}, nil), ErrUnknownKey},
		{"kid is SQL", k.signed(members{"kid": "x' UNION SELECT 'key' -- "}, nil), ErrUnknownKey},
		{"kid with a NUL behind", k.signed(members{"kid": kid + "\x00"}, nil), ErrUnknownKey},
		{"kid in other letters", k.signed(members{"kid": strings.ToUpper(kid)}, nil), ErrUnknownKey},
		{"kid of 2 KB", k.signed(members{"kid": strings.Repeat("k", 2000)}, nil), ErrUnknownKey},
		{"kid of 10 KB", k.signed(members{"kid": strings.Repeat("k", 10_000)}, nil), ErrTooLong},

		{"header: kid twice", rawHeader(`{"alg":"ES256","kid":"x","typ":"spark-session+jwt","kid":"` + kid + `"}`), ErrHeader},
		{"header: alg twice", rawHeader(`{"alg":"none","alg":"ES256","kid":"` + kid + `","typ":"spark-session+jwt"}`), ErrHeader},
		{"header: unknown name twice", rawHeader(`{"a":1,"a":1,"alg":"ES256","kid":"` + kid + `","typ":"spark-session+jwt"}`), ErrHeader},
		{"header: kid twice, once escaped", rawHeader(`{"alg":"ES256","k\u0069d":"x","kid":"` + kid + `","typ":"spark-session+jwt"}`), ErrHeader},
		{"header: KID beside kid", k.signed(members{"KID": "x"}, nil), ErrHeader},
		{"header: Kid for kid", k.signed(members{"kid": nil, "Kid": kid}, nil), ErrHeader},
		{"header: Crit", k.signed(members{"Crit": []string{"x"}}, nil), ErrHeader},
		{"header: JSON behind", rawHeader(headerOf(k.es256).json(t) + `{}`), ErrHeader},
		{"header: a list", rawHeader(`[` + headerOf(k.es256).json(t) + `]`), ErrHeader},
		{"header: null", rawHeader(`null`), ErrHeader},
		{"header: comma at the end", rawHeader(strings.TrimSuffix(headerOf(k.es256).json(t), "}") + `,}`), ErrHeader},
		{"header: byte order mark", rawHeader("\ufeff" + headerOf(k.es256).json(t)), ErrHeader},
		{"header: not UTF-8", rawHeader(strings.TrimSuffix(headerOf(k.es256).json(t), "}") + ",\"x\":\"\xff\"}"), ErrHeader},

		{"5 KiB", k.signed(nil, members{"pad": strings.Repeat("p", 5<<10)}), ErrTooLong},
		{"1 MiB of dots", strings.Repeat(".", 1<<20), ErrTooLong},
		{"4 KiB of dots", strings.Repeat(".", 4<<10), ErrMalformed},
		{"header: 2,000 brackets", rawHeader(strings.Repeat("[", 1000) + strings.Repeat("]", 1000)), ErrHeader},
		{"line break behind, escaped", good + "%0A", ErrMalformed},
		{"line break behind", good + "\n", ErrMalformed},
		{"line break inside", good[:40] + "\n" + good[40:], ErrMalformed},
		{"space behind", good + " ", ErrMalformed},
		{"space in front", " " + good, ErrMalformed},
		{"padding", good + "==", ErrMalformed},
		{"last bit flipped", flipLastBit(good), ErrMalformed},
		{"cut by a character", good[:len(good)-1], ErrMalformed},
		{"cut at the second dot", good[:strings.LastIndexByte(good, '.')], ErrMalformed},
		{"fourth segment", good + ".AAAA", ErrMalformed},
		{"two tokens", good + "," + good, ErrMalformed},
		{"empty", "", ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := k.verifier.Verify(tt.token, KindSession)
			if !errors.Is(err, tt.err) || id != nil {
				t.Errorf("got %+v, %v; want %v", id, err, tt.err)
			}
			checkSilent(t, err, tt.token)
		})
	}
	if _, err := k.verifier.Verify(good, KindSession); err != nil {
		t.Errorf("the token that these were made of is refused: %v", err)
	}
}

// checkSilent fails if the error's text repeats anything of the token, raw or
// decoded.
func checkSilent(t *testing.T, err error, token string) {
	t.Helper()
	const window = 10
	if err == nil {
		return
	}
	texts := []string{token}
	for s := range strings.SplitSeq(token[:min(len(token), MaxTokenBytes)], ".") {
		if b, err := decodeSegment(s); err == nil {
			texts = append(texts, string(b))
		}
	}
	for _, text := range texts {
		for i := range len(text) - window {
			if strings.Contains(err.Error(), text[i:i+window]) {
				t.Errorf("error %q repeats %q of the token", err, text[i:i+window])
			}
		}
	}
}

// A header that says where to fetch a key, or brings one along, makes nobody
// fetch or trust anything (J1).
func TestVerifyFollowsNoAddress(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	k := newKit(t)
	mallory, err := GenerateSigningKey(ES256)
	ok(t, err)
	for _, h := range []members{
		{"jku": server.URL}, {"x5u": server.URL}, {"jku": server.URL, "kid": server.URL},
		{"jwk": members{"kty": "EC", "crv": "P-256"}}, {"kid": server.URL},
	} {
		token := sign(t, mallory, headerOf(mallory).with(h).json(t), claims().json(t))
		if id, err := k.verifier.Verify(token, KindSession); !errors.Is(err, ErrHeader) && !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%v: got %+v, %v", h, id, err)
		}
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// Each ECDSA signature has a twin. Both verify, for one and the same jti, which
// is why revocation goes by jti (package doc).
func TestVerifyTakesBothTwinsOfASignature(t *testing.T) {
	k := newKit(t)
	good := k.signed(nil, nil)
	b := signatureOf(t, good)
	s := new(big.Int).SetBytes(b[32:])
	s.Sub(order(), s).FillBytes(b[32:])
	twin := withSignature(good, b)
	if twin == good {
		t.Fatal("no twin was made")
	}
	first, err := k.verifier.Verify(good, KindSession)
	ok(t, err)
	second, err := k.verifier.Verify(twin, KindSession)
	ok(t, err)
	if first.TokenID != second.TokenID {
		t.Errorf("one signature, two ids: %s and %s", first.TokenID, second.TokenID)
	}
}

func TestVerifyTellsKindsApart(t *testing.T) {
	k := newKit(t)
	session, _ := k.mint(k.es256, sessionGrant())
	control, _ := k.mint(k.es256, controlGrant())
	for range 2 { // the second time both are remembered
		if _, err := k.verifier.Verify(session, KindSession); err != nil {
			t.Error(err)
		}
		if id, err := k.verifier.Verify(control, KindControl); err != nil || !id.Admin {
			t.Error(id, err)
		}
		if _, err := k.verifier.Verify(session, KindControl); !errors.Is(err, ErrHeader) {
			t.Errorf("session token for the control API: %v", err)
		}
		if _, err := k.verifier.Verify(control, KindSession); !errors.Is(err, ErrHeader) {
			t.Errorf("control token for a session: %v", err)
		}
		if _, err := k.verifier.Verify(session, Kind(0)); !errors.Is(err, ErrHeader) {
			t.Errorf("no kind: %v", err)
		}
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	keys := newKit(t).keys
	tests := []struct {
		name string
		cfg  VerifierConfig
	}{
		{"no keys", VerifierConfig{Issuer: "i"}},
		{"no issuer", VerifierConfig{Keys: keys}},
		{"negative leeway", VerifierConfig{Keys: keys, Issuer: "i", Leeway: -1}},
		{"an hour of leeway", VerifierConfig{Keys: keys, Issuer: "i", Leeway: time.Hour}},
		{"negative lifetime", VerifierConfig{Keys: keys, Issuer: "i", MaxLifetime: -1}},
		{"one audience for both kinds", VerifierConfig{Keys: keys, Issuer: "i", Audiences: Audiences{Session: "a", Control: "a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if v, err := NewVerifier(tt.cfg); err == nil || v != nil {
				t.Errorf("got %v, %v", v, err)
			}
		})
	}
}

func order() *big.Int { return elliptic.P256().Params().N }

func signatureOf(t *testing.T, token string) []byte {
	t.Helper()
	b, err := decodeSegment(token[strings.LastIndexByte(token, '.')+1:])
	ok(t, err)
	return b
}

func withSignature(token string, signature []byte) string {
	return token[:strings.LastIndexByte(token, '.')+1] + encodeSegment(signature)
}

func swapClaims(token, claims string) string {
	parts := strings.Split(token, ".")
	parts[1] = encodeSegment([]byte(claims))
	return strings.Join(parts, ".")
}

// derSignature signs the token anew, in the encoding that TLS uses and JWS
// doesn't.
func derSignature(t *testing.T, key *SigningKey, token string) []byte {
	t.Helper()
	hash := jwt.SigningMethodES256.Hash.New()
	hash.Write([]byte(token[:strings.LastIndexByte(token, '.')]))
	der, err := ecdsa.SignASN1(nil, key.private.(*ecdsa.PrivateKey), hash.Sum(nil))
	ok(t, err)
	return der
}

// flipLastBit changes the unused bits of the last character: the same bytes to
// a decoder that is not strict.
func flipLastBit(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}
