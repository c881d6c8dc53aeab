package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// SigningKey is a private key that mints tokens: ES256 or EdDSA. It never
// prints itself.
type SigningKey struct {
	private crypto.Signer // *ecdsa.PrivateKey or ed25519.PrivateKey
	public  *publicKey
}

// GenerateSigningKey makes a fresh key, for ES256 or EdDSA.
func GenerateSigningKey(alg Algorithm) (*SigningKey, error) {
	switch alg {
	case ES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("generate signing key: %w", err)
		}
		return newSigningKey(private)
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("generate signing key: %w", err)
		}
		return newSigningKey(private)
	}
	return nil, fmt.Errorf("generate signing key: algorithm %q mints no tokens: choose ES256 or EdDSA", alg)
}

// LoadSigningKey reads the one private key of a PEM file (PKCS #8 or SEC 1).
// The file's mode must be 0600 or stricter.
func LoadSigningKey(path string) (*SigningKey, error) {
	f, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	_, privates, err := parsePEM(f.data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	if len(privates) != 1 {
		return nil, fmt.Errorf("key file %s holds %d private keys: it must hold one", path, len(privates))
	}
	if err := f.checkMode(true); err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	key, err := newSigningKey(privates[0])
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return key, nil
}

func newSigningKey(private crypto.Signer) (*SigningKey, error) {
	public, err := newPublicKey("", private.Public())
	if err != nil {
		return nil, err
	}
	if public.alg == RS256 {
		return nil, errors.New("an RSA key mints no tokens here: use a P-256 or an Ed25519 key")
	}
	return &SigningKey{private: private, public: public}, nil
}

// KeyID is the kid of the tokens that the key mints: its RFC 7638 thumbprint.
func (k *SigningKey) KeyID() string { return k.public.kid }

// Algorithm is ES256 or EdDSA.
func (k *SigningKey) Algorithm() Algorithm { return k.public.alg }

// Derive returns 32 bytes that only who has the key can make, for one purpose
// (HKDF, RFC 5869, with SHA-256).
func (k *SigningKey) Derive(purpose string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode signing key: %w", err)
	}
	return hkdf.Key(sha256.New, der, nil, "sconce "+purpose, sha256.Size)
}

// WritePEM writes the private key to a new file, as PKCS #8 with mode 0600. It
// overwrites nothing.
func (k *SigningKey) WritePEM(path string) error {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return fmt.Errorf("encode signing key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(path) // half a key is worse than none
		return fmt.Errorf("write key file %s: %w", path, err)
	}
	return nil
}

// Format writes the key's id for every verb, so that no log line, however
// careless, shows the key. (A nil *SigningKey prints as <nil>.)
func (k SigningKey) Format(w fmt.State, _ rune) {
	id := "none"
	if k.public != nil {
		id = k.public.kid
	}
	_, _ = io.WriteString(w, "signing key "+id)
}
