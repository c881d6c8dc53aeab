package auth

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// Header and claims are any bytes at all, signed with the true key, so that the
// fuzzer is not stopped at the signature. What is accepted, encoding/json must
// read just so, both as a map (last of two equal names wins) and as a struct
// (letters of any case match): no reader of the token sees another identity.
func FuzzVerify(f *testing.F) {
	k := newKit(f, func(cfg *VerifierConfig) { cfg.CacheSize = -1 })
	good, h := claims().json(f), headerOf(k.eddsa).json(f)
	control := headerOf(k.eddsa).with(members{"typ": "sconce-control+jwt"}).json(f)
	f.Add(h, good, false)
	f.Add(control, claims().with(members{"aud": []string{"sconce-control"}, "sid": nil, "role": "admin"}).json(f), true)
	f.Add(h, strings.TrimSuffix(good, "}")+`,"sid":"s-2"}`, false)
	f.Add(h, strings.TrimSuffix(good, "}")+`,"S\u0069d":"s-2"}`, false)
	f.Add(strings.TrimSuffix(h, "}")+`,"crit":[]}`, good, false)
	f.Add(h, good+" ", false)
	f.Add(h, strings.Replace(good, "alice", `\ud83d\ude00`, 1), false)
	f.Fuzz(func(t *testing.T, h, c string, control bool) {
		kind := KindSession
		if control {
			kind = KindControl
		}
		id, err := k.verifier.Verify(sign(t, k.eddsa, h, c), kind)
		if err != nil {
			if id != nil || !isSentinel(err) {
				t.Fatalf("got %+v, %v", id, err)
			}
			return
		}
		compareWithJSON(t, k, id, h, c)
	})
}

func compareWithJSON(t *testing.T, k *kit, id *Identity, h, c string) {
	t.Helper()
	var hdr struct {
		Alg, Kid, Typ string
		Crit, B64     json.RawMessage
	}
	ok(t, json.Unmarshal([]byte(h), &hdr))
	if hdr.Alg != "EdDSA" || hdr.Kid != k.eddsa.KeyID() || hdr.Typ != id.Kind.typ() || hdr.Crit != nil || hdr.B64 != nil {
		t.Fatalf("header %q accepted as %+v", h, hdr)
	}
	var read struct {
		Iss, Sub, Sid, Org, Jti, Role string
		Aud                           any
		Iat, Nbf, Exp                 json.Number
	}
	ok(t, json.Unmarshal([]byte(c), &read))
	var byName map[string]any
	ok(t, json.Unmarshal([]byte(c), &byName))
	if list, isList := read.Aud.([]any); isList && len(list) == 1 {
		read.Aud = list[0]
	}
	same := read.Iss == testIssuer && byName["iss"] == testIssuer &&
		read.Aud == (Audiences{}).of(id.Kind) &&
		read.Sub == id.Subject && byName["sub"] == id.Subject &&
		read.Org == id.Org && byName["org"] == id.Org &&
		read.Jti == id.TokenID && byName["jti"] == id.TokenID &&
		read.Sid == id.Session && (id.Kind == KindControl || byName["sid"] == id.Session) &&
		id.Admin == (id.Kind == KindControl && read.Role == "admin" && byName["role"] == "admin")
	for number, at := range map[json.Number]time.Time{read.Iat: id.IssuedAt, read.Nbf: id.NotBefore, read.Exp: id.Expires} {
		n, isInt := new(big.Int).SetString(number.String(), 10)
		same = same && isInt && n.IsInt64() && n.Int64() == at.Unix()
	}
	if !same {
		t.Fatalf("%q accepted as %+v", c, id)
	}
	if id.Subject == "" || id.Org == "" || id.TokenID == "" || id.Session == "" != (id.Kind == KindControl) {
		t.Fatalf("%q accepted as %+v", c, id)
	}
}

func isSentinel(err error) bool {
	for _, s := range []error{
		ErrTooLong, ErrMalformed, ErrHeader, ErrAlgorithm, ErrUnknownKey, ErrSignature,
		ErrClaims, ErrIssuer, ErrAudience, ErrNotYet, ErrExpired,
	} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// No change of a byte anywhere makes another good token: with EdDSA and one
// spelling of base64, only what was minted is accepted.
func FuzzVerifyRaw(f *testing.F) {
	k := newKit(f)
	minted := sign(f, k.eddsa, headerOf(k.eddsa).json(f), claims().json(f))
	f.Add(0, "")
	f.Add(len(minted)-1, "A")
	f.Add(10, "\n")
	f.Add(len(minted), "=")
	f.Fuzz(func(t *testing.T, at int, with string) {
		if at < 0 || at > len(minted) {
			return
		}
		token := minted[:at] + with + minted[min(len(minted), at+len(with)):]
		id, err := k.verifier.Verify(token, KindSession)
		if (err == nil) != (token == minted) {
			t.Fatalf("%q: got %+v, %v", token, id, err)
		}
		if err != nil && !isSentinel(err) {
			t.Fatal(err)
		}
	})
}
