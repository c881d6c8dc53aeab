package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestIssuedTokensVerify(t *testing.T) {
	k := newKit(t)
	grants := []struct {
		name  string
		grant Grant
	}{
		{"session", sessionGrant()},
		{"control", controlGrant()},
		{"control, no admin", Grant{Kind: KindControl, Subject: "alice", Org: "acme"}},
		{"names that JSON escapes", Grant{Kind: KindSession, Subject: `a<b>&"\é李`, Org: "o", Session: `"\<&>{}`}},
		{"longest names", Grant{
			Kind: KindSession, Subject: strings.Repeat(`"`, 256), Org: strings.Repeat(`\`, 256), Session: strings.Repeat(`"`, 128),
		}},
		{"shortest life", Grant{Kind: KindControl, Subject: "a", Org: "o", Lifetime: time.Second}},
		{"longest life", Grant{Kind: KindControl, Subject: "a", Org: "o", Lifetime: 24 * time.Hour}},
		{"fraction of a second", Grant{Kind: KindControl, Subject: "a", Org: "o", Lifetime: 1900 * time.Millisecond}},
	}
	for _, tt := range grants {
		for _, key := range []*SigningKey{k.es256, k.eddsa} {
			t.Run(tt.name+" "+string(key.Algorithm()), func(t *testing.T) {
				token, want := k.mint(key, tt.grant)
				got, err := k.verifier.Verify(token, tt.grant.Kind)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("verified as %+v, %v; issued as %+v", got, err, want)
				}
			})
		}
	}
}

// The very bytes of a token, so that other programs can rely on its form.
func TestIssuedTokenForm(t *testing.T) {
	k := newKit(t)
	i, err := NewIssuer(IssuerConfig{
		Key: k.es256, Issuer: testIssuer, Rand: bytes.NewReader(make([]byte, 16)),
		Now: func() time.Time { return noon().Add(999 * time.Millisecond) },
	})
	ok(t, err)
	token, _, err := i.Issue(controlGrant())
	ok(t, err)
	parts := strings.Split(token, ".")
	for n, want := range []string{
		`{"alg":"ES256","kid":"` + k.es256.KeyID() + `","typ":"sconce-control+jwt"}`,
		`{"iss":"https://sconce.example","aud":"sconce-control","sub":"alice@acme.example","org":"acme",` +
			`"role":"admin","jti":"00000000000000000000000000000000","iat":1795262400,"nbf":1795262400,"exp":1795266000}`,
	} {
		got, err := base64.RawURLEncoding.DecodeString(parts[n])
		if err != nil || string(got) != want {
			t.Errorf("segment %d: got %s, %v; want %s", n, got, err, want)
		}
	}
}

func TestTokenIDsDiffer(t *testing.T) {
	k := newKit(t)
	seen := make(map[string]bool)
	for range 100 {
		_, id := k.mint(k.eddsa, sessionGrant())
		if len(id.TokenID) != 32 || seen[id.TokenID] {
			t.Fatalf("jti %q", id.TokenID)
		}
		seen[id.TokenID] = true
	}
}

func TestIssueRefuses(t *testing.T) {
	k := newKit(t)
	tests := []struct {
		name, field string
		change      func(*Grant)
	}{
		{"no kind", "kind", func(g *Grant) { g.Kind = 0 }},
		{"unknown kind", "kind", func(g *Grant) { g.Kind = 3 }},
		{"no subject", "subject", func(g *Grant) { g.Subject = "" }},
		{"long subject", "subject", func(g *Grant) { g.Subject = strings.Repeat("s", 257) }},
		{"line break in subject", "subject", func(g *Grant) { g.Subject = "a\nb" }},
		{"subject not UTF-8", "subject", func(g *Grant) { g.Subject = "a\xff" }},
		{"no org", "org", func(g *Grant) { g.Org = "" }},
		{"no session", "session", func(g *Grant) { g.Session = "" }},
		{"space in session", "session", func(g *Grant) { g.Session = "a b" }},
		{"session in a control token", "session", func(g *Grant) { g.Kind = KindControl }},
		{"admin in a session token", "admin", func(g *Grant) { g.Admin = true }},
		{"negative lifetime", "lifetime", func(g *Grant) { g.Lifetime = -time.Hour }},
		{"lifetime under a second", "lifetime", func(g *Grant) { g.Lifetime = time.Second - 1 }},
		{"lifetime over a day", "lifetime", func(g *Grant) { g.Lifetime = 24*time.Hour + 1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := sessionGrant()
			tt.change(&g)
			token, id, err := k.issuer(k.es256).Issue(g)
			var grantErr *GrantError
			if !errors.As(err, &grantErr) || grantErr.Field != tt.field || token != "" || id != nil {
				t.Errorf("got %q, %+v, %v; want field %s", token, id, err, tt.field)
			}
		})
	}
}

func TestIssueWithoutRandomnessFails(t *testing.T) {
	k := newKit(t)
	i, err := NewIssuer(IssuerConfig{Key: k.es256, Issuer: testIssuer, Rand: iotest.ErrReader(errors.New("dry"))})
	ok(t, err)
	if token, _, err := i.Issue(sessionGrant()); err == nil || token != "" {
		t.Errorf("got %q, %v", token, err)
	}
}

func TestIssueMintsNothingThatIsTooLong(t *testing.T) {
	k := newKit(t)
	i, err := NewIssuer(IssuerConfig{Key: k.es256, Issuer: strings.Repeat("i", 4000)})
	ok(t, err)
	if token, _, err := i.Issue(sessionGrant()); !errors.Is(err, ErrTooLong) || token != "" {
		t.Errorf("got %q, %v", token, err)
	}
}

func TestIssuerLifetimes(t *testing.T) {
	k := newKit(t)
	tests := []struct {
		name          string
		lifetime, max time.Duration
		want          time.Duration // 0 = refused
	}{
		{"defaults", 0, 0, time.Hour},
		{"own", 2 * time.Hour, 0, 2 * time.Hour},
		{"bound under the default", 0, time.Minute, time.Minute},
		{"over the bound", time.Hour, time.Minute, 0},
		{"over the default bound", 48 * time.Hour, 0, 0},
		{"negative", -1, 0, 0},
		{"bound negative", 0, -1, 0},
		{"bound under a second", 0, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i, err := NewIssuer(IssuerConfig{Key: k.es256, Issuer: testIssuer, Lifetime: tt.lifetime, MaxLifetime: tt.max})
			if tt.want == 0 {
				if err == nil {
					t.Error("taken")
				}
				return
			}
			ok(t, err)
			_, id, err := i.Issue(sessionGrant())
			ok(t, err)
			if got := id.Expires.Sub(id.IssuedAt); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	k := newKit(t)
	if _, err := NewIssuer(IssuerConfig{Issuer: testIssuer}); err == nil {
		t.Error("no key: taken")
	}
	if _, err := NewIssuer(IssuerConfig{Key: k.es256}); err == nil {
		t.Error("no issuer: taken")
	}
}

// json.Marshal of the claims would be longer, not different.
func TestEncodeJSON(t *testing.T) {
	b, err := encodeJSON("<&>")
	if err != nil || string(b) != `"<&>"` {
		t.Errorf("got %s, %v", b, err)
	}
	var back string
	if err := json.Unmarshal(b, &back); err != nil || back != "<&>" {
		t.Errorf("got %q, %v", back, err)
	}
}
