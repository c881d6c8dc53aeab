package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// vectors is one file of testdata/wycheproof: vectors of C2SP/wycheproof in a form
// of our own, with base64url throughout.
type vectors struct {
	Source  string
	Commit  string
	Licence string
	Groups  []struct {
		Key   json.RawMessage // a JWK
		Tests []vector
	}
}

type vector struct {
	ID     int
	What   string
	Result string // valid, invalid or acceptable: true by an older standard

	Token              string // of jws.json
	Message, Signature string // of the others: bytes
}

// TestWycheproof runs every vector, and holds the whole list of those that end in
// another way than it says. A vector that is not valid and is taken, or a list that
// is not exact, fails.
func TestWycheproof(t *testing.T) {
	tests := []struct {
		file        string
		number      int
		check       func(*testing.T, []*publicKey, vector) error
		differences map[string][]int // why, and which
	}{
		{"jws.json", 401, checkJWS, map[string][]int{
			"HS256: who verifies could mint":            {1, 348, 352, 357, 358, 359, 376, 377},
			"RS384, RS512: of RSA only RS256 is taken":  {265, 266, 267, 269, 270, 271},
			"PS256, PS384, PS512: not offered":          {273, 274, 275, 287, 288, 321, 322, 323, 326, 327, 328, 346, 350},
			"ES512: of ECDSA only ES256 is taken":       {347, 351},
			"no claims: a token says who calls":         {259, 264, 268, 272, 320, 325},
			"a stray ? in it: a token has one spelling": {372, 373},
		}},
		{"ed25519.json", 151, checkBytes, nil},
		{"es256.json", 262, checkBytes, nil},
		{"rs256.json", 259, checkBytes, nil},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			v := readVectors(t, tt.file)
			got, ran := map[int]string{}, 0
			for _, g := range v.Groups {
				keys, keyErr := parseJWKS(fmt.Appendf(nil, `{"keys":[%s]}`, g.Key))
				for _, c := range g.Tests {
					ran++
					err := errors.Join(keyErr, tt.check(t, keys, c))
					if (err == nil) != (c.Result == "valid") {
						got[c.ID] = fmt.Sprintf("%s, %q: %v", c.Result, c.What, err)
					}
				}
			}
			if ran != tt.number {
				t.Errorf("%d vectors ran, not %d", ran, tt.number)
			}
			compareDifferences(t, got, tt.differences)
		})
	}
}

func compareDifferences(t *testing.T, got map[int]string, want map[string][]int) {
	t.Helper()
	for why, ids := range want {
		for _, id := range ids {
			if got[id] == "" {
				t.Errorf("vector %d no longer differs (%s)", id, why)
			}
			delete(got, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(got)) {
		t.Errorf("vector %d: %s", id, got[id])
	}
}

// checkJWS is Verifier.verify up to the claims, without the typ that only our own
// tokens have.
func checkJWS(_ *testing.T, keys []*publicKey, c vector) error {
	parts, err := splitToken(c.Token)
	if err != nil {
		return err
	}
	o, err := parseHarmless(parts.header)
	if err != nil {
		return err
	}
	h, err := o.keyHint()
	if err != nil {
		return err
	}
	if _, err := decodeSegment(parts.claims); err != nil {
		return err
	}
	for _, k := range keys {
		if k.kid == h.kid {
			return k.verify(h, parts)
		}
	}
	return ErrUnknownKey
}

// checkBytes checks a signature over bytes that are no token.
func checkBytes(t *testing.T, keys []*publicKey, c vector) error {
	t.Helper()
	if len(keys) != 1 {
		return ErrUnknownKey
	}
	message, err := decodeSegment(c.Message)
	ok(t, err)
	return keys[0].verify(header{alg: keys[0].alg}, compact{signed: string(message), signature: c.Signature})
}

func readVectors(t *testing.T, name string) (v vectors) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "wycheproof", name))
	ok(t, err)
	ok(t, json.Unmarshal(b, &v))
	if v.Source == "" || v.Commit == "" || v.Licence == "" {
		t.Errorf("%s does not say where it is from", name)
	}
	return v
}
