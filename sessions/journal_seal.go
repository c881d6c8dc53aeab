package sessions

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	journalKeyBytes = 32
	keyIDBytes      = 4
	sealVersion     = 1
	// keyInfo is HKDF's info: one master key serves this purpose only.
	keyInfo = "sconce journal 1"
)

// ErrJournalKey: no key that is known here opens it, or it was changed.
var ErrJournalKey = errors.New("journal entry cannot be opened")

// JournalKeys are the keys that journals are encrypted with: AES-256-GCM, by a key
// of the session's own (HKDF-SHA-256). The first one writes, all read.
type JournalKeys struct {
	keys []journalKey
}

type journalKey struct {
	id     [keyIDBytes]byte
	secret []byte
}

// LoadJournalKeys reads a file of keys: one a line, 32 bytes in base64, the one
// that writes first. Empty lines and lines that begin with # are left out. older are
// keys that read besides.
func LoadJournalKeys(path string, older ...[]byte) (*JournalKeys, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read journal keys: %w", err)
	}
	var secrets [][]byte
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("journal keys %s: line %d is not base64", path, i+1)
		}
		secrets = append(secrets, secret)
	}
	keys, err := NewJournalKeys(secrets...)
	if err != nil {
		return nil, fmt.Errorf("journal keys %s: %w", path, err)
	}
	return keys, keys.add(older...)
}

// NewJournalKeys takes keys of 32 bytes, the one that writes first.
func NewJournalKeys(secrets ...[]byte) (*JournalKeys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("there is no key: write one with `openssl rand -base64 32`")
	}
	k := &JournalKeys{}
	return k, k.add(secrets...)
}

func (k *JournalKeys) add(secrets ...[]byte) error {
	for i, secret := range secrets {
		if len(secret) != journalKeyBytes {
			return fmt.Errorf("key %d has %d bytes and must have %d", i+1, len(secret), journalKeyBytes)
		}
		sum := sha256.Sum256(append([]byte(keyInfo), secret...))
		k.keys = append(k.keys, journalKey{id: [keyIDBytes]byte(sum[:]), secret: bytes.Clone(secret)})
	}
	return nil
}

// seal encrypts for one place: version, key, nonce, ciphertext. The place is bound
// to it, so that it opens nowhere else.
func (k *JournalKeys) seal(id ID, place string, plain []byte) ([]byte, error) {
	key := &k.keys[0]
	aead, err := key.aead(id)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1+keyIDBytes+aead.NonceSize(), 1+keyIDBytes+aead.NonceSize()+len(plain)+aead.Overhead())
	out[0] = sealVersion
	copy(out[1:], key.id[:])
	nonce := out[1+keyIDBytes:]
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("seal journal entry: %w", err)
	}
	return aead.Seal(out, nonce, plain, placeOf(id, place)), nil //nolint:gosec // the nonce was read from rand
}

// sealBlob encrypts content that is named by its own hash. The same content gives
// the same bytes, so that two who write it at once write one blob: its nonce is a
// keyed hash of the content, and comes again only with that content.
func (k *JournalKeys) sealBlob(id ID, name string, plain []byte) ([]byte, error) {
	key := &k.keys[0]
	aead, err := key.aead(id)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1+keyIDBytes, 1+keyIDBytes+aead.NonceSize()+len(plain)+aead.Overhead())
	out[0] = sealVersion
	copy(out[1:], key.id[:])
	sum := sha256.Sum256(plain)
	h := hmac.New(sha256.New, key.secret)
	h.Write(placeOf(id, "nonce\x00"+name+"\x00"))
	h.Write(sum[:])
	out = append(out, h.Sum(nil)[:aead.NonceSize()]...)
	return aead.Seal(out, out[1+keyIDBytes:], plain, placeOf(id, blobPlace(name))), nil
}

// open decrypts what seal made for the same place. ErrJournalKey.
func (k *JournalKeys) open(id ID, place string, sealed []byte) ([]byte, error) {
	const head = 1 + keyIDBytes
	if len(sealed) < head || sealed[0] != sealVersion {
		return nil, ErrJournalKey
	}
	for i := range k.keys {
		key := &k.keys[i]
		if !bytes.Equal(key.id[:], sealed[1:head]) {
			continue
		}
		aead, err := key.aead(id)
		if err != nil {
			return nil, err
		}
		if len(sealed) < head+aead.NonceSize() {
			return nil, ErrJournalKey
		}
		nonce, text := sealed[head:head+aead.NonceSize()], sealed[head+aead.NonceSize():]
		plain, err := aead.Open(nil, nonce, text, placeOf(id, place))
		if err != nil {
			return nil, ErrJournalKey
		}
		return plain, nil
	}
	return nil, ErrJournalKey
}

func (k *journalKey) aead(id ID) (cipher.AEAD, error) {
	own, err := hkdf.Key(sha256.New, k.secret, []byte(id), keyInfo, journalKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("journal key: %w", err)
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		return nil, fmt.Errorf("journal key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("journal key: %w", err)
	}
	return aead, nil
}

// mask turns a name into one that tells nothing, the same each time.
func (k *JournalKeys) mask(id ID, name string) string {
	own, err := hkdf.Key(sha256.New, k.keys[0].secret, []byte(id), keyInfo+" names", journalKeyBytes)
	if err != nil { // only for a length that SHA-256 cannot give
		return ""
	}
	h := hmac.New(sha256.New, own)
	h.Write([]byte(name))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func placeOf(id ID, place string) []byte { return []byte(string(id) + "\x00" + place) }

func entryPlace(spark SparkID, seq uint64) string {
	return "entry\x00" + string(spark) + "\x00" + strconv.FormatUint(seq, 10)
}

func blobPlace(name string) string { return "blob\x00" + name }
