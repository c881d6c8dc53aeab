package auth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxKeyFileBytes is the longest key file that is read.
const maxKeyFileBytes = 64 << 10

// keyFile is a key file's content, and the mode that it was read under.
type keyFile struct {
	path string
	mode fs.FileMode
	lent bool // by root, to who reads it as a member of its group
	data []byte
}

// readKeyFile reads one regular file. The mode is that of the opened file, so
// nobody can swap the file between check and read.
func readKeyFile(path string) (*keyFile, error) {
	// Opening a pipe would wait for its writer.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file: name a PEM or JWKS file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("inspect key file: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if len(data) > maxKeyFileBytes {
		return nil, fmt.Errorf("key file %s is longer than 64 KiB: split it", path)
	}
	return &keyFile{path: path, mode: info.Mode(), lent: lent(info, os.Geteuid()), data: data}, nil
}

// lent says whether a file is root's and its reader, user, is not. So secrets come into
// a container of Kubernetes: root owns them, and their group (fsGroup) is the reader's.
func lent(info fs.FileInfo, user int) bool {
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && owner.Uid == 0 && user != 0
}

// publicKeys reads the keys of a PEM or a JWKS file. Of private keys it takes
// the public half, but only out of a file that nobody else can read (checkMode).
func (f *keyFile) publicKeys() ([]*publicKey, error) {
	keys, err := f.parse()
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", f.path, err)
	}
	return keys, nil
}

func (f *keyFile) parse() ([]*publicKey, error) {
	if trimmed := bytes.TrimSpace(f.data); len(trimmed) > 0 && trimmed[0] == '{' {
		return parseJWKS(trimmed)
	}
	publics, privates, err := parsePEM(f.data)
	if err != nil {
		return nil, err
	}
	if err := f.checkMode(len(privates) > 0); err != nil {
		return nil, err
	}
	for _, p := range privates {
		publics = append(publics, p.Public())
	}
	keys := make([]*publicKey, 0, len(publics))
	for _, p := range publics {
		k, err := newPublicKey("", p)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (f *keyFile) checkMode(private bool) error {
	if err := exposed(f.path, f.mode, f.lent); private && err != nil {
		return fmt.Errorf("it holds a private key and %w", err)
	}
	return nil
}

// CheckSecretFile returns an error that says what to do where others than its reader
// may be at a file that holds a secret.
func CheckSecretFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return exposed(path, info.Mode(), lent(info, os.Geteuid()))
}

func exposed(path string, mode fs.FileMode, lent bool) error {
	others := fs.FileMode(0o077)
	if lent {
		others = 0o037
	}
	if mode.Perm()&others == 0 {
		return nil
	}
	return fmt.Errorf("its mode %04o lets others at it: run `chmod 600 %s`", mode.Perm(), path)
}

// parsePEM reads every block of a PEM file: PKIX public keys, PKCS #8 and SEC 1
// private keys. A block that cannot be read is an error, also one that is cut
// short and that encoding/pem would therefore skip.
func parsePEM(data []byte) (publics []crypto.PublicKey, privates []crypto.Signer, err error) {
	begun := bytes.Count(data, []byte("-----BEGIN "))
	if begun == 0 {
		return nil, nil, errors.New("it is neither PEM nor a JWKS: export the key as one of these")
	}
	for range begun {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, nil, errors.New("a PEM block is cut short or garbled: write the file again")
		}
		switch block.Type {
		case "EC PARAMETERS": // what `openssl ecparam -genkey` writes in front
		case "PUBLIC KEY":
			public, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, nil, errors.New("its public key cannot be read: export it again")
			}
			publics = append(publics, public)
		default:
			private, err := parsePrivate(block)
			if err != nil {
				return nil, nil, err
			}
			privates = append(privates, private)
		}
	}
	return publics, privates, nil
}

func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, errors.New("a PEM block is no key that is read here (PUBLIC KEY, PRIVATE KEY, EC PRIVATE KEY): convert it with `openssl pkey`")
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		// Not err: it may quote what it read.
		return nil, errors.New("its private key cannot be read: export it again")
	}
	return signer, nil
}
