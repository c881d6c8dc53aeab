package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxKidBytes bounds the kid of a key in a JWKS.
const maxKidBytes = 256

// jwk is one key of a JWKS (RFC 7517), with the members that matter here.
type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	Alg    string   `json:"alg"`
	Crv    string   `json:"crv"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	D      string   `json:"d"` // private: must not be there
	K      string   `json:"k"` // symmetric: likewise
}

// parseJWKS reads the keys of a JWKS that verify tokens here. Keys meant for
// something else (use, key_ops, alg, kty, crv) are passed over, as RFC 7517
// asks; a key that would be ours but is broken makes the whole file faulty,
// rather than go missing in silence.
func parseJWKS(b []byte) ([]*publicKey, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, errors.New(`not a JWKS: it must be {"keys": [...]}`)
	}
	var keys []*publicKey
	for i, j := range set.Keys {
		if j.D != "" || j.K != "" {
			return nil, fmt.Errorf("key %d of the JWKS is secret: publish its public part only", i+1)
		}
		if !j.ours() {
			continue
		}
		k, err := j.publicKey()
		if err != nil {
			return nil, fmt.Errorf("key %d of the JWKS: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (j *jwk) ours() bool {
	if j.Use != "" && j.Use != "sig" || len(j.KeyOps) > 0 && !slices.Contains(j.KeyOps, "verify") {
		return false
	}
	var alg Algorithm
	switch {
	case j.Kty == "EC" && j.Crv == "P-256":
		alg = ES256
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		alg = EdDSA
	case j.Kty == "RSA":
		alg = RS256
	default:
		return false
	}
	return j.Alg == "" || j.Alg == string(alg)
}

func (j *jwk) publicKey() (*publicKey, error) {
	if j.Kid == "" || len(j.Kid) > maxKidBytes {
		return nil, fmt.Errorf("its kid is missing or longer than %d bytes: give it one", maxKidBytes)
	}
	public, err := j.material()
	if err != nil {
		return nil, err
	}
	return newPublicKey(j.Kid, public)
}

func (j *jwk) material() (crypto.PublicKey, error) {
	switch j.Kty {
	case "EC":
		point := append([]byte{4}, decodeMembers(j.X, j.Y)...)
		p, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			return nil, errors.New("x and y are no point of P-256: export it again")
		}
		return p, nil
	case "OKP":
		return ed25519.PublicKey(decodeMembers(j.X)), nil // newPublicKey checks its length
	default:
		n, e := decodeMembers(j.N), new(big.Int).SetBytes(decodeMembers(j.E))
		if len(n) == 0 || !e.IsInt64() || e.BitLen() > 31 {
			return nil, errors.New("n or e is not usable: export it again")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e.Int64())}, nil
	}
}

// decodeMembers decodes and joins base64url members; a faulty one counts as
// empty, and then the length is wrong.
func decodeMembers(members ...string) []byte {
	var b []byte
	for _, m := range members {
		d, err := decodeSegment(m)
		if err == nil {
			b = append(b, d...)
		}
	}
	return b
}
