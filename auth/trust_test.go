package auth

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
)

const outside = "https://login.example/realms/acme"

// trustKit is a kit with one outside issuer besides, whose keys are its rs256
// and other; our own are es256 and eddsa.
type trustKit struct {
	*kit
	other     *SigningKey // the outside issuer's second key, ES256
	published *PublishedKeys
	trust     *Trust
	missing   error // what is said of an unknown key
}

func newTrustKit(t testing.TB, change ...func(*TrustConfig)) *trustKit {
	t.Helper()
	k := &trustKit{kit: newKit(t), missing: ErrUnknownKey}
	var err error
	k.other, err = GenerateSigningKey(ES256)
	ok(t, err)
	k.published = NewPublishedKeys(func() error { return k.missing })
	k.publish(k.rs256, k.other)
	cfg := TrustConfig{
		Issuer: outside, Audience: "sconce", Keys: k.published,
		Claims:     ClaimNames{Subject: "email", Org: "https://acme.example/org", Roles: "realm_access.roles"},
		AdminRoles: []string{"sconce-admin"}, DataPath: true, Now: func() time.Time { return k.now },
	}
	for _, c := range change {
		c(&cfg)
	}
	k.trust, err = NewTrust(cfg)
	ok(t, err)
	return k
}

// publish makes these the issuer's keys.
func (k *trustKit) publish(keys ...*SigningKey) {
	k.Helper()
	_, err := k.published.Replace(jwksOf(k, keys...))
	ok(k, err)
}

func jwksOf(t testing.TB, keys ...*SigningKey) []byte {
	list := make([]members, len(keys))
	for i, key := range keys {
		list[i] = jwkOf(t, key.KeyID(), key.public.public)
	}
	return jwks(t, list...)
}

func outsideClaims() members {
	return members{
		"iss": outside, "aud": []string{"account", "sconce"}, "sub": "6f2c", "email": "ada@acme.example", "email_verified": true,
		"https://acme.example/org": "acme", "realm_access": members{"roles": []string{"user"}, "x": 1}, "azp": "cli", "nonce": "n",
		"iat": noon().Unix(), "exp": noon().Add(time.Hour).Unix(),
	}
}

func (k *trustKit) outsideToken(changeHeader, changeClaims members) string {
	k.Helper()
	h := members{"alg": "RS256", "kid": k.rs256.KeyID(), "typ": "JWT"}
	return sign(k, k.rs256, h.with(changeHeader).json(k), outsideClaims().with(changeClaims).json(k))
}

func TestTrustVerify(t *testing.T) {
	k := newTrustKit(t)
	want := &Identity{
		Kind: KindOutside, Subject: "ada@acme.example", Org: "acme", Issuer: outside,
		IssuedAt: noon(), NotBefore: time.Unix(0, 0).UTC(), Expires: noon().Add(time.Hour),
	}
	token := k.outsideToken(nil, nil)
	for _, which := range []string{"first", "remembered"} {
		id, err := k.trust.Verify(token)
		if err != nil || !reflect.DeepEqual(id, want) {
			t.Errorf("%s: %+v, %v; want %+v", which, id, err, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = k.trust.Verify(token) }); n != 0 {
		t.Errorf("a remembered token costs %v allocations", n)
	}
	k.now = noon().Add(time.Hour + 31*time.Second)
	if _, err := k.trust.Verify(token); !errors.Is(err, ErrExpired) {
		t.Errorf("remembered, after it expired: %v", err)
	}
}

func TestTrustTakes(t *testing.T) {
	k := newTrustKit(t)
	for _, tt := range []struct {
		name           string
		header, claims members
		admin          bool
	}{
		{"an administrator", nil, members{"realm_access": members{"roles": []string{"user", "sconce-admin"}}}, true},
		{"one role, not in a list", nil, members{"realm_access": members{"roles": "sconce-admin"}}, true},
		{"the roles by the whole name", nil, members{"realm_access.roles": []string{"sconce-admin"}}, true},
		{"a role that only begins so", nil, members{"realm_access": members{"roles": []string{"sconce-admin2", "SCONCE-ADMIN"}}}, false},
		{"no roles", nil, members{"realm_access": nil}, false},
		{"roles elsewhere", nil, members{"realm_access": members{"x": members{"roles": []string{"sconce-admin"}}}}, false},
		{"our role claim", nil, members{"role": "admin"}, false},
		{"one audience", nil, members{"aud": "sconce"}, false},
		{"no typ", members{"typ": nil}, nil, false},
		{"an access token", members{"typ": "application/at+JWT"}, nil, false},
		{"nbf that has come", nil, members{"nbf": noon().Unix()}, false},
		{"expired within the leeway", nil, members{"iat": noon().Unix() - 100, "exp": noon().Unix() - 29}, false},
		{"12 KiB", nil, members{"groups": strings.Repeat("g", 8<<10)}, false},
		{"email verified, as text", nil, members{"email_verified": "true"}, false},
		{"email of which nothing is said", nil, members{"email_verified": nil}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := k.trust.Verify(k.outsideToken(tt.header, tt.claims))
			if err != nil || id.Admin != tt.admin || id.Session != "" || id.TokenID != "" {
				t.Errorf("%+v, %v; want admin %v", id, err, tt.admin)
			}
		})
	}
}

func TestTrustRefuses(t *testing.T) {
	k := newTrustKit(t)
	good := k.outsideToken(nil, nil)
	stranger, err := GenerateSigningKey(ES256)
	ok(t, err)
	claimsText := outsideClaims().json(t)
	raw := func(claims string) string {
		return sign(t, k.rs256, members{"alg": "RS256", "kid": k.rs256.KeyID()}.json(t), claims)
	}
	unsigned := func(alg string) string {
		return encodeSegment([]byte(members{"alg": alg, "kid": k.rs256.KeyID()}.json(t))) + "." + encodeSegment([]byte(claimsText)) + ".AAAA"
	}
	tests := map[string]struct {
		token string
		err   error
	}{
		"nothing":                     {"", ErrMalformed},
		"17 KiB":                      {k.outsideToken(nil, members{"g": strings.Repeat("g", 17<<10)}), ErrTooLong},
		"a line break behind":         {good + "\n", ErrMalformed},
		"padding":                     {good + "=", ErrMalformed},
		"last bit flipped":            {flipLast(good), ErrMalformed},
		"none":                        {unsigned("none"), ErrAlgorithm},
		"HS256":                       {unsigned("HS256"), ErrAlgorithm},
		"RS512":                       {unsigned("RS512"), ErrAlgorithm},
		"ES256 for an RSA key":        {k.outsideToken(members{"alg": "ES256"}, nil), ErrAlgorithm},
		"signed by another":           {sign(t, stranger, members{"alg": "ES256", "kid": k.other.KeyID()}.json(t), claimsText), ErrSignature},
		"no kid":                      {k.outsideToken(members{"kid": nil}, nil), ErrUnknownKey},
		"an unknown kid":              {k.outsideToken(members{"kid": "../../etc/passwd"}, nil), ErrUnknownKey},
		"our own key":                 {sign(t, k.es256, headerOf(k.es256).with(members{"typ": "JWT"}).json(t), claimsText), ErrUnknownKey},
		"crit":                        {k.outsideToken(members{"crit": []string{"exp"}}, nil), ErrHeader},
		"jku":                         {k.outsideToken(members{"jku": "https://evil.example"}, nil), ErrHeader},
		"jwk":                         {k.outsideToken(members{"jwk": members{}}, nil), ErrHeader},
		"a logout token":              {k.outsideToken(members{"typ": "logout+jwt"}, nil), ErrHeader},
		"typ of our session tokens":   {k.outsideToken(members{"typ": "spark-session+jwt"}, nil), ErrHeader},
		"a number as typ":             {k.outsideToken(members{"typ": 1}, nil), ErrHeader},
		"another issuer":              {k.outsideToken(nil, members{"iss": outside + "/"}), ErrIssuer},
		"no issuer":                   {k.outsideToken(nil, members{"iss": nil}), ErrClaims},
		"another audience":            {k.outsideToken(nil, members{"aud": "account"}), ErrAudience},
		"audience in other letters":   {k.outsideToken(nil, members{"aud": "Sconce"}), ErrAudience},
		"no audience":                 {k.outsideToken(nil, members{"aud": nil}), ErrClaims},
		"an empty list of audiences":  {k.outsideToken(nil, members{"aud": []string{}}), ErrAudience},
		"null among the audiences":    {k.outsideToken(nil, members{"aud": []any{"sconce", nil}}), ErrClaims},
		"a thousand audiences":        {k.outsideToken(nil, members{"aud": make([]string, 1000)}), ErrClaims},
		"no sub":                      {k.outsideToken(nil, members{"sub": nil}), ErrClaims},
		"no subject":                  {k.outsideToken(nil, members{"email": nil}), ErrClaims},
		"an empty subject":            {k.outsideToken(nil, members{"email": ""}), ErrClaims},
		"a subject with a line break": {k.outsideToken(nil, members{"email": "a\nb"}), ErrClaims},
		"a list as subject":           {k.outsideToken(nil, members{"email": []string{"a"}}), ErrClaims},
		"email not verified":          {k.outsideToken(nil, members{"email_verified": false}), ErrClaims},
		"email not verified, as text": {k.outsideToken(nil, members{"email_verified": "false"}), ErrClaims},
		"no organisation":             {k.outsideToken(nil, members{"https://acme.example/org": nil}), ErrClaims},
		"an organisation of 257":      {k.outsideToken(nil, members{"https://acme.example/org": strings.Repeat("o", 257)}), ErrClaims},
		"roles that are numbers":      {k.outsideToken(nil, members{"realm_access": members{"roles": []int{1}}}), ErrClaims},
		"roles in no object":          {k.outsideToken(nil, members{"realm_access": "x"}), ErrClaims},
		"no exp":                      {k.outsideToken(nil, members{"exp": nil}), ErrClaims},
		"no iat":                      {k.outsideToken(nil, members{"iat": nil}), ErrClaims},
		"exp before iat":              {k.outsideToken(nil, members{"exp": noon().Unix() - 1}), ErrClaims},
		"exp as text":                 {k.outsideToken(nil, members{"exp": "9999999999"}), ErrClaims},
		"expired by 31 s":             {k.outsideToken(nil, members{"iat": noon().Unix() - 100, "exp": noon().Unix() - 31}), ErrExpired},
		"issued in 31 s":              {k.outsideToken(nil, members{"iat": noon().Unix() + 31}), ErrNotYet},
		"good in 31 s":                {k.outsideToken(nil, members{"nbf": noon().Unix() + 31}), ErrNotYet},
		"iss twice":                   {raw(`{"iss":"` + outside + `",` + claimsText[1:]), ErrClaims},
		"email twice":                 {raw(`{"email":"eve@acme.example",` + claimsText[1:]), ErrClaims},
		"Email beside email":          {k.outsideToken(nil, members{"Email": "eve@acme.example"}), ErrClaims},
		"AUD beside aud":              {k.outsideToken(nil, members{"AUD": "x"}), ErrClaims},
		"roles twice, inside":         {raw(strings.Replace(claimsText, `"roles":["user"]`, `"roles":["user"],"roles":["sconce-admin"]`, 1)), ErrClaims},
		"not JSON":                    {raw(`{"iss":`), ErrClaims},
		"something behind":            {raw(claimsText + "{}"), ErrClaims},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if id, err := k.trust.Verify(tt.token); !errors.Is(err, tt.err) {
				t.Errorf("%+v, %v; want %v", id, err, tt.err)
			}
		})
	}
}

func flipLast(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + alphabet[last^1:last^1+1]
}

// A key that is withdrawn takes its tokens with it, also the remembered ones; one
// that stays keeps them.
func TestPublishedKeysRotate(t *testing.T) {
	k := newTrustKit(t)
	old := k.outsideToken(nil, nil)
	stays := sign(t, k.other, members{"alg": "ES256", "kid": k.other.KeyID()}.json(t), outsideClaims().json(t))
	for _, token := range []string{old, stays} {
		_, err := k.trust.Verify(token)
		ok(t, err)
	}
	k.publish(k.other)
	if _, err := k.trust.Verify(old); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("signed by a key that was withdrawn: %v", err)
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = k.trust.Verify(stays) }); n != 0 {
		t.Errorf("a token of the key that stayed was forgotten: %v allocations", n)
	}
	k.missing = ErrIssuerAway
	if _, err := k.trust.Verify(old); !errors.Is(err, ErrIssuerAway) {
		t.Errorf("while the issuer is away: %v", err)
	}
}

func TestPublishedKeysReplace(t *testing.T) {
	k := newTrustKit(t)
	ed := jwkOf(t, "ed", k.eddsa.public.public)
	weak := jwkOf(t, "weak", rsaWeakKey().Public())
	secret := maps.Clone(ed)
	secret["kid"], secret["d"] = "leaked", "AAAA"
	unnamed := maps.Clone(ed)
	delete(unnamed, "kid")
	again := jwkOf(t, "ed", k.other.public.public)
	many := make([]members, maxPublishedKeys+1)
	for name, tt := range map[string]struct {
		doc    any
		kids   []string
		passed int
		err    string
	}{
		"one": {members{"keys": []members{ed}}, []string{"ed"}, 0, ""},
		"with keys for others": {members{"keys": []any{ed, weak, secret, unnamed, members{"kty": "oct", "k": "AA", "kid": "o"}, 7,
			members{"kty": "EC", "crv": "P-521", "kid": "p"}}}, []string{"ed"}, 6, ""},
		"two keys of one kid": {members{"keys": []members{ed, again, jwkOf(t, "x", k.other.public.public)}}, []string{"x"}, 2, ""},
		"none of ours":        {members{"keys": []members{weak}}, nil, 0, "no key that verifies tokens here"},
		"an empty list":       {members{"keys": []members{}}, nil, 0, "no key that verifies tokens here"},
		"no list":             {members{}, nil, 0, "no key that verifies tokens here"},
		"too many":            {members{"keys": many}, nil, 0, "at most 100"},
		"an array":            {[]int{1}, nil, 0, "not a JWKS"},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPublishedKeys(nil)
			b, err := json.Marshal(tt.doc)
			ok(t, err)
			_, err = p.Replace(jwksOf(t, k.es256)) // what must stay if it is refused
			ok(t, err)
			passed, err := p.Replace(b)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !reflect.DeepEqual(p.KeyIDs(), []string{k.es256.KeyID()}) {
					t.Errorf("%v, keys %v; want %q and the keys of before", err, p.KeyIDs(), tt.err)
				}
				return
			}
			if err != nil || passed != tt.passed || !reflect.DeepEqual(p.KeyIDs(), tt.kids) {
				t.Errorf("%v, %d passed over, %v; want %v, %d", p.KeyIDs(), passed, err, tt.kids, tt.passed)
			}
		})
	}
}

func TestNewTrustRefuses(t *testing.T) {
	keys := NewPublishedKeys(nil)
	for name, cfg := range map[string]TrustConfig{
		"no issuer":                 {Audience: "a", Keys: keys, Org: "o"},
		"no audience":               {Issuer: "i", Keys: keys, Org: "o"},
		"no keys":                   {Issuer: "i", Audience: "a", Org: "o"},
		"no organisation":           {Issuer: "i", Audience: "a", Keys: keys},
		"two organisations":         {Issuer: "i", Audience: "a", Keys: keys, Org: "o", Claims: ClaimNames{Org: "org"}},
		"an organisation of spaces": {Issuer: "i", Audience: "a", Keys: keys, Org: "  "},
		"admin roles of no claim":   {Issuer: "i", Audience: "a", Keys: keys, Org: "o", AdminRoles: []string{"x"}},
		"leeway of an hour":         {Issuer: "i", Audience: "a", Keys: keys, Org: "o", Leeway: time.Hour},
	} {
		if _, err := NewTrust(cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// Who is believed for what.
func TestPrincipals(t *testing.T) {
	k := newTrustKit(t)
	control, err := NewTrust(TrustConfig{Issuer: "https://control.example", Audience: "sconce", Keys: k.published, Org: "acme", Now: func() time.Time { return k.now }})
	ok(t, err)
	p, err := NewPrincipals(k.verifier, k.trust, control)
	ok(t, err)
	session, _ := k.mint(k.es256, sessionGrant())
	ours, _ := k.mint(k.es256, controlGrant())
	outsider := k.outsideToken(nil, nil)
	controls := k.outsideToken(nil, members{"iss": "https://control.example"})
	apiKey, _, _, err := NewAPIKey(strings.NewReader(strings.Repeat("k", 30)))
	ok(t, err)
	for _, tt := range []struct {
		name, token string
		kind        Kind
		want        Kind
		err         error
	}{
		{"session token, data path", session, KindSession, KindSession, nil},
		{"session token, control", session, KindControl, 0, ErrHeader},
		{"control token, control", ours, KindControl, KindControl, nil},
		{"control token, data path", ours, KindSession, 0, ErrHeader},
		{"outside token, data path", outsider, KindSession, KindOutside, nil},
		{"outside token, control", outsider, KindControl, KindOutside, nil},
		{"token of an issuer for control, data path", controls, KindSession, 0, ErrOutside},
		{"token of an issuer for control, control", controls, KindControl, KindOutside, nil},
		{"token of nobody's issuer", k.outsideToken(nil, members{"iss": "https://evil.example"}), KindControl, 0, ErrHeader},
		{"outside key under our name", sign(t, k.other, members{"alg": "ES256", "kid": k.other.KeyID(), "typ": "sconce-control+jwt"}.json(t),
			outsideClaims().with(members{"iss": testIssuer}).json(t)), KindControl, 0, ErrUnknownKey},
		{"one issuer's token in another's name", k.outsideToken(members{"kid": k.es256.KeyID()}, nil), KindControl, 0, ErrUnknownKey},
		{"an API key", apiKey, KindSession, 0, ErrAPIKey},
		{"an API key, control", apiKey, KindControl, 0, ErrAPIKey},
		{"long rubbish", strings.Repeat("x.", 20<<10), KindSession, 0, ErrTooLong},
		{"rubbish", "a.b.c", KindControl, 0, ErrMalformed},
	} {
		for _, which := range []string{"first", "again"} {
			id, err := p.Verify(tt.token, tt.kind)
			if !errors.Is(err, tt.err) || err == nil && id.Kind != tt.want {
				t.Errorf("%s, %s: %+v, %v; want %s, %v", tt.name, which, id, err, tt.want, tt.err)
			}
		}
	}
	for name, token := range map[string]string{"session": session, "outside": outsider} {
		if n := testing.AllocsPerRun(100, func() { _, _ = p.Verify(token, KindSession) }); n != 0 {
			t.Errorf("a remembered %s token costs %v allocations on the data path", name, n)
		}
	}
}

func TestNewPrincipalsRefuses(t *testing.T) {
	k := newTrustKit(t)
	if _, err := NewPrincipals(k.verifier, k.trust, k.trust); err == nil {
		t.Error("one issuer twice was taken")
	}
	ours, err := NewTrust(TrustConfig{Issuer: testIssuer, Audience: "a", Keys: k.published, Org: "o"})
	ok(t, err)
	if _, err := NewPrincipals(k.verifier, ours); err == nil {
		t.Error("our own issuer from outside was taken")
	}
	if _, err := NewPrincipals(nil); err == nil {
		t.Error("no verifier was taken")
	}
}

// Whatever the claims say, the parser refuses or finds a principal with names.
func FuzzTrustClaims(f *testing.F) {
	cfg := TrustConfig{
		Issuer: outside, Audience: "sconce", AdminRoles: []string{"sconce-admin"},
		Claims: ClaimNames{Subject: "email", Org: "a.b.c", Roles: "realm_access.roles"},
	}
	f.Add(outsideClaims().with(members{"a": members{"b": members{"c": "acme"}}}).json(f))
	f.Add(outsideClaims().with(members{"a": members{"b.c": "acme"}}).json(f))
	f.Add(outsideClaims().with(members{"a.b.c": "acme", "a": members{"b": 1}}).json(f))
	f.Fuzz(func(t *testing.T, claims string) {
		id, err := cfg.parseClaims([]byte(claims))
		if err == nil && (checkName(id.Subject) != "" || checkName(id.Org) != "" || !id.Expires.After(id.IssuedAt)) {
			t.Errorf("%s: %+v", claims, id)
		}
	})
}
