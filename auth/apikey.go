package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// An API key is
//
//	sck_<id>_<secret><check>
//
// all in 0-9 and a-v: an id of 16 letters, which is no secret; a secret of 32,
// which is 160 random bits; and a check of 7 over all before it, so that a key
// that was cut or mistyped is told at once, and one that lies in a repository is
// found by a scanner without asking anybody:
//
//	sck_[0-9a-v]{16}_[0-9a-v]{39}
//
// What is kept of it is its SHA-256. A slow hash is for secrets that people
// choose; 160 random bits cannot be guessed however fast each guess is.
const (
	keyPrefix    = "sck_"
	keyIDBytes   = 10
	keySecret    = 20
	keyIDChars   = keyIDBytes * 8 / 5
	keyBodyChars = len(keyPrefix) + keyIDChars + 1 + keySecret*8/5
	keyChars     = keyBodyChars + 7
)

var keyAlphabet = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// KeyHash is what is kept of an API key.
type KeyHash [sha256.Size]byte

// Equal compares in constant time.
func (h KeyHash) Equal(other KeyHash) bool { return subtle.ConstantTimeCompare(h[:], other[:]) == 1 }

// NewAPIKey makes a key of random's bits. The key is a secret: show it once, keep
// its hash.
func NewAPIKey(random io.Reader) (key, id string, hash KeyHash, err error) {
	var b [keyIDBytes + keySecret]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", "", KeyHash{}, fmt.Errorf("draw an API key: %w", err)
	}
	id = keyAlphabet.EncodeToString(b[:keyIDBytes])
	body := keyPrefix + id + "_" + keyAlphabet.EncodeToString(b[keyIDBytes:])
	key = body + keyCheck(body)
	return key, id, sha256.Sum256([]byte(key)), nil
}

// IsAPIKey says whether a credential means to be an API key, right or wrong.
func IsAPIKey(credential string) bool { return strings.HasPrefix(credential, keyPrefix) }

// ParseAPIKey returns which key it is and what its kept hash must be. A key that
// was damaged is ErrMalformed.
func ParseAPIKey(key string) (id string, hash KeyHash, err error) {
	if len(key) != keyChars || !IsAPIKey(key) {
		return "", KeyHash{}, ErrMalformed
	}
	id = key[len(keyPrefix) : len(keyPrefix)+keyIDChars]
	if !IsKeyID(id) || key[len(keyPrefix)+keyIDChars] != '_' || keyCheck(key[:keyBodyChars]) != key[keyBodyChars:] {
		return "", KeyHash{}, ErrMalformed
	}
	return id, sha256.Sum256([]byte(key)), nil
}

// IsKeyID says whether a text has the form of a key's id.
func IsKeyID(id string) bool {
	return len(id) == keyIDChars && !strings.ContainsFunc(id, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'v')
	})
}

// keyCheck is the CRC-32 of the rest of the key: it finds accidents, and keeps
// nobody from making one that fits.
func keyCheck(body string) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], crc32.ChecksumIEEE([]byte(body)))
	return keyAlphabet.EncodeToString(b[:])
}
