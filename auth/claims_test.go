package auth

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// Attacks J3 and J5 and rows 3 and 7 of the bad inputs: tokens that the true
// key did sign.
func TestVerifyRefusesClaims(t *testing.T) {
	k := newKit(t, func(cfg *VerifierConfig) { cfg.MaxLifetime = 2 * time.Hour })
	raw := func(claims string) string { return sign(t, k.es256, headerOf(k.es256).json(t), claims) }
	with := func(change members) string { return k.signed(nil, change) }
	// behind puts text in front of the closing brace.
	behind := func(text string) string { return raw(strings.TrimSuffix(claims().json(t), "}") + text + "}") }

	tests := []struct {
		name, token string
		err         error
	}{
		{"sid twice", behind(`,"sid":"s-2"`), ErrClaims},
		{"sid twice, equal", behind(`,"sid":"s-1"`), ErrClaims},
		{"sid twice, once escaped", behind(`,"s\u0069d":"s-2"`), ErrClaims},
		{"sub twice", behind(`,"sub":"mallory"`), ErrClaims},
		{"unknown claim twice", behind(`,"x":1,"x":2`), ErrClaims},
		{"SID beside sid", with(members{"SID": "s-2"}), ErrClaims},
		{"SID for sid", with(members{"sid": nil, "SID": "s-1"}), ErrClaims},
		{"Exp for exp", with(members{"exp": nil, "Exp": 9999999999}), ErrClaims},
		{"long s for the s of sid", with(members{"ſid": "s-2"}), ErrClaims},
		{"JSON behind", raw(claims().json(t) + `{"sid":"s-2"}`), ErrClaims},
		{"brace behind", raw(claims().json(t) + `}`), ErrClaims},
		{"NUL behind", raw(claims().json(t) + "\x00"), ErrClaims},
		{"comma at the end", behind(","), ErrClaims},
		{"not UTF-8 in a claim", raw(strings.Replace(claims().json(t), "alice", "alic\xff", 1)), ErrClaims},
		{"not UTF-8 in a name", behind(",\"\xff\":1"), ErrClaims},
		{"half a surrogate pair", raw(strings.Replace(claims().json(t), "alice", `\ud800`, 1)), ErrClaims},
		{"a list", raw("[" + claims().json(t) + "]"), ErrClaims},
		{"null", raw("null"), ErrClaims},
		{"empty object", raw("{}"), ErrClaims},
		{"no JSON", raw("alice"), ErrClaims},

		{"no iss", with(members{"iss": nil}), ErrClaims},
		{"no aud", with(members{"aud": nil}), ErrClaims},
		{"no sub", with(members{"sub": nil}), ErrClaims},
		{"no sid", with(members{"sid": nil}), ErrClaims},
		{"no org", with(members{"org": nil}), ErrClaims},
		{"no jti", with(members{"jti": nil}), ErrClaims},
		{"no iat", with(members{"iat": nil}), ErrClaims},
		{"no nbf", with(members{"nbf": nil}), ErrClaims},
		{"no exp", with(members{"exp": nil}), ErrClaims},

		{"other issuer", with(members{"iss": "https://evil.example"}), ErrIssuer},
		{"issuer with a slash behind", with(members{"iss": testIssuer + "/"}), ErrIssuer},
		{"issuer in upper case", with(members{"iss": strings.ToUpper(testIssuer)}), ErrIssuer},
		{"empty issuer", with(members{"iss": ""}), ErrIssuer},
		{"issuer in a list", with(members{"iss": []string{testIssuer}}), ErrClaims},
		{"other audience", with(members{"aud": "sconce-console"}), ErrAudience},
		{"control audience", with(members{"aud": "sconce-control"}), ErrAudience},
		{"empty audience", with(members{"aud": ""}), ErrAudience},
		{"no audience in the list", with(members{"aud": []string{}}), ErrAudience},
		{"our audience among others", with(members{"aud": []string{"sconce-session", "other"}}), ErrAudience},
		{"our audience twice", with(members{"aud": []string{"sconce-session", "sconce-session"}}), ErrAudience},
		{"null in the list", raw(strings.Replace(claims().json(t), `"sconce-session"`, "[null]", 1)), ErrAudience},
		{"number in the list", with(members{"aud": []any{1}}), ErrClaims},
		{"audience is an object", with(members{"aud": members{"sconce-session": 1}}), ErrClaims},
		{"audience is null", raw(strings.Replace(claims().json(t), `"sconce-session"`, "null", 1)), ErrClaims},

		{"empty sub", with(members{"sub": ""}), ErrClaims},
		{"empty sid", with(members{"sid": ""}), ErrClaims},
		{"empty org", with(members{"org": ""}), ErrClaims},
		{"empty jti", with(members{"jti": ""}), ErrClaims},
		{"sub is null", raw(strings.Replace(claims().json(t), `"alice@acme.example"`, "null", 1)), ErrClaims},
		{"sub is a number", with(members{"sub": 1}), ErrClaims},
		{"sid is a list", with(members{"sid": []string{"s-1"}}), ErrClaims},
		{"sub too long", with(members{"sub": strings.Repeat("s", 257)}), ErrClaims},
		{"org too long", with(members{"org": strings.Repeat("s", 257)}), ErrClaims},
		{"sid too long", with(members{"sid": strings.Repeat("s", 129)}), ErrClaims},
		{"jti too long", with(members{"jti": strings.Repeat("s", 129)}), ErrClaims},
		{"line break in sub", with(members{"sub": "alice\nroot"}), ErrClaims},
		{"NUL in sub", with(members{"sub": "alice\x00"}), ErrClaims},
		{"escape in org", with(members{"org": "acme\x1b[2J"}), ErrClaims},
		{"text turned round in sub", with(members{"sub": "alice\u202ecilA"}), ErrClaims},
		{"nothing wide in sub", with(members{"sub": "ali\u200bce"}), ErrClaims},
		{"space behind sub", with(members{"sub": "alice "}), ErrClaims},
		{"space in sid", with(members{"sid": "s 1"}), ErrClaims},
		{"line break in sid", with(members{"sid": "s-1\r\nx: y"}), ErrClaims},
		{"sid not ASCII", with(members{"sid": "s-é"}), ErrClaims},
		{"NUL in jti", with(members{"jti": "a\x00b"}), ErrClaims},

		{"exp is a string", with(members{"exp": "1795000000"}), ErrClaims},
		{"exp is null", behindNull(t, k, "exp"), ErrClaims},
		{"exp is a fraction", with(members{"exp": 1795000000.5}), ErrClaims},
		{"exp with an exponent", raw(strings.Replace(claims().json(t), `"exp":`, `"exp":1e1,"x":`, 1)), ErrClaims},
		{"exp below zero", with(members{"exp": -1}), ErrClaims},
		{"exp past all years", with(members{"exp": maxSeconds + 1}), ErrClaims},
		{"exp past all integers", raw(strings.Replace(claims().json(t), `"exp":`, `"exp":99999999999999999999999999,"x":`, 1)), ErrClaims},
		{"exp that wraps to a good one", raw(strings.Replace(claims().json(t), `"exp":`, `"exp":18446744075509551616,"x":`, 1)), ErrClaims},
		{"iat is true", with(members{"iat": true}), ErrClaims},
		{"nbf is a list", with(members{"nbf": []int{1}}), ErrClaims},
		{"exp at iat", with(members{"exp": noon().Unix()}), ErrClaims},
		{"exp before iat", with(members{"exp": noon().Unix() - 10}), ErrClaims},
		{"a second longer than allowed", with(members{"exp": noon().Add(2*time.Hour + time.Second).Unix()}), ErrClaims},
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
	if _, err := k.verifier.Verify(with(members{"exp": noon().Add(2 * time.Hour).Unix()}), KindSession); err != nil {
		t.Errorf("as long as allowed: %v", err)
	}
}

func behindNull(t *testing.T, k *kit, name string) string {
	c := claims().with(members{name: nil}).json(t)
	return sign(t, k.es256, headerOf(k.es256).json(t), strings.TrimSuffix(c, "}")+`,"`+name+`":null}`)
}

func TestVerifyControlClaims(t *testing.T) {
	k := newKit(t)
	tests := []struct {
		name, token string
		admin       bool
		err         error
	}{
		{"no role", controlToken(k, nil), false, nil},
		{"admin", controlToken(k, members{"role": "admin"}), true, nil},
		{"another role", controlToken(k, members{"role": "member"}), false, nil},
		{"Admin in other letters", controlToken(k, members{"role": "ADMIN"}), false, nil},
		{"role is a list", controlToken(k, members{"role": []string{"admin"}}), false, ErrClaims},
		{"role twice in other letters", controlToken(k, members{"role": "member", "Role": "admin"}), false, ErrClaims},
		{"with a session", controlToken(k, members{"sid": "s-1"}), false, ErrClaims},
		{"session audience", controlToken(k, members{"aud": "sconce-session"}), false, ErrAudience},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := k.verifier.Verify(tt.token, KindControl)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %+v, %v; want %v", id, err, tt.err)
			}
			if err == nil && (id.Admin != tt.admin || id.Session != "" || id.Kind != KindControl) {
				t.Errorf("got %+v", id)
			}
		})
	}
}

func controlToken(k *kit, change members) string {
	c := claims().with(members{"aud": "sconce-control", "sid": nil}).with(change)
	h := headerOf(k.es256).with(members{"typ": "sconce-control+jwt"})
	return sign(k, k.es256, h.json(k), c.json(k))
}

// The clock is moved, the token stays; leeway is 30 s. Each time is asked of a
// verifier that sees the token for the first time and of one that remembers it.
func TestVerifyClock(t *testing.T) {
	exp := noon().Add(time.Hour)
	tests := []struct {
		name     string
		iat, nbf time.Duration // from noon
		now      time.Time
		err      error
	}{
		{"fresh", 0, 0, noon(), nil},
		{"a second before exp", 0, 0, exp.Add(-time.Second), nil},
		{"29 s past exp", 0, 0, exp.Add(29 * time.Second), nil},
		{"30 s past exp", 0, 0, exp.Add(30 * time.Second), ErrExpired},
		{"31 s past exp", 0, 0, exp.Add(31 * time.Second), ErrExpired},
		{"a year past exp", 0, 0, exp.AddDate(1, 0, 0), ErrExpired},
		{"29 s before nbf", 0, 29 * time.Second, noon(), nil},
		{"30 s before nbf", 0, 30 * time.Second, noon(), nil},
		{"31 s before nbf", 0, 31 * time.Second, noon(), ErrNotYet},
		{"29 s before iat", 29 * time.Second, 0, noon(), nil},
		{"31 s before iat", 31 * time.Second, 0, noon(), ErrNotYet},
		{"a year before iat", 0, 0, noon().AddDate(-1, 0, 0), ErrNotYet},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newKit(t)
			token := k.signed(nil, members{
				"iat": noon().Add(tt.iat).Unix(), "nbf": noon().Add(tt.nbf).Unix(), "exp": exp.Unix(),
			})
			k.now = tt.now
			_, first := k.verifier.Verify(token, KindSession)
			k.now = noon().Add(time.Minute)
			if _, err := k.verifier.Verify(token, KindSession); err != nil {
				t.Fatalf("a minute past noon: %v", err)
			}
			k.now = tt.now
			_, remembered := k.verifier.Verify(token, KindSession)
			for _, err := range []error{first, remembered} {
				if !errors.Is(err, tt.err) {
					t.Errorf("got %v, then %v; want %v", first, remembered, tt.err)
				}
				var expired *ExpiredError
				if tt.err == ErrExpired && (!errors.As(err, &expired) || !expired.Expired.Equal(exp)) {
					t.Errorf("%v does not carry the time %v", err, exp)
				}
			}
		})
	}
}

func TestVerifyLeewayIsConfigurable(t *testing.T) {
	k := newKit(t, func(cfg *VerifierConfig) { cfg.Leeway = time.Second })
	token := k.signed(nil, nil)
	k.now = noon().Add(time.Hour)
	if _, err := k.verifier.Verify(token, KindSession); err != nil {
		t.Errorf("at exp: %v", err)
	}
	k.now = noon().Add(time.Hour + time.Second)
	if _, err := k.verifier.Verify(token, KindSession); !errors.Is(err, ErrExpired) {
		t.Errorf("a second past exp: %v", err)
	}
}

func TestVerifyAudiencesAreConfigurable(t *testing.T) {
	k := newKit(t, func(cfg *VerifierConfig) { cfg.Audiences.Session = "lakehouse" })
	if _, err := k.verifier.Verify(k.signed(nil, members{"aud": "lakehouse"}), KindSession); err != nil {
		t.Error(err)
	}
	if _, err := k.verifier.Verify(k.signed(nil, nil), KindSession); !errors.Is(err, ErrAudience) {
		t.Errorf("default audience: %v", err)
	}
}

func TestExpiredErrorText(t *testing.T) {
	err := &ExpiredError{Expired: noon()}
	if got := err.Error(); got != "token expired at 2026-11-21T12:00:00Z" {
		t.Error(got)
	}
	if errors.Is(err, ErrNotYet) {
		t.Error("expired is not ErrNotYet")
	}
}
