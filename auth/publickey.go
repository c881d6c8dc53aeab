package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is a JWS algorithm, by its name in a token's header.
type Algorithm string

const (
	ES256 Algorithm = "ES256" // ECDSA on P-256: minted and verified
	EdDSA Algorithm = "EdDSA" // Ed25519: minted and verified
	RS256 Algorithm = "RS256" // RSA PKCS #1 v1.5, 2048 bits or more: verified only
)

func (a Algorithm) known() bool { return a == ES256 || a == EdDSA || a == RS256 }

const (
	minRSABits = 2048
	maxRSABits = 8192 // a check costs the square of it
)

// publicKey verifies the tokens that name its kid, with the one algorithm that
// its type allows. It is immutable but for retired.
type publicKey struct {
	kid    string
	alg    Algorithm
	public crypto.PublicKey // *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey
	// retired: no longer in the key set. Set once, after the set without this key
	// is in place, so a token checked by a retired key is never a cache hit.
	retired atomic.Bool
}

// newPublicKey checks the key. kid "" = its RFC 7638 thumbprint.
func newPublicKey(kid string, public crypto.PublicKey) (*publicKey, error) {
	k := &publicKey{kid: kid, public: public}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return nil, errors.New("an EC key on another curve than P-256: use P-256 or Ed25519")
		}
		k.alg = ES256
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 key of a wrong length: export it again")
		}
		k.alg = EdDSA
	case *rsa.PublicKey:
		if bits := p.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits: use %d to %d", bits, minRSABits, maxRSABits)
		}
		if p.E < 3 || p.E%2 == 0 {
			return nil, errors.New("an RSA key with an unsafe exponent: use 65537")
		}
		k.alg = RS256
	default:
		return nil, errors.New("a key of a kind that signs no tokens here: use P-256, Ed25519 or RSA")
	}
	if k.kid != "" {
		return k, nil
	}
	var err error
	k.kid, err = thumbprint(public)
	return k, err
}

func (k *publicKey) method() jwt.SigningMethod {
	switch k.alg {
	case ES256:
		return jwt.SigningMethodES256
	case EdDSA:
		return jwt.SigningMethodEdDSA
	default:
		return jwt.SigningMethodRS256
	}
}

// same tells whether two keys verify the same tokens.
func (k *publicKey) same(other *publicKey) bool {
	p, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.kid == other.kid && k.alg == other.alg && p.Equal(other.public)
}

// thumbprint names a key by its own value (RFC 7638; RFC 8037 for Ed25519).
func thumbprint(public crypto.PublicKey) (string, error) {
	var members string
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes() // 4, x, y
		if err != nil {
			return "", fmt.Errorf("EC key: %w", err)
		}
		xy := point[1:]
		members = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`,
			encodeSegment(xy[:len(xy)/2]), encodeSegment(xy[len(xy)/2:]))
	case ed25519.PublicKey:
		members = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, encodeSegment(p))
	case *rsa.PublicKey:
		members = fmt.Sprintf(`{"e":"%s","kty":"RSA","n":"%s"}`,
			encodeSegment(big.NewInt(int64(p.E)).Bytes()), encodeSegment(p.N.Bytes()))
	}
	sum := sha256.Sum256([]byte(members))
	return encodeSegment(sum[:]), nil
}
