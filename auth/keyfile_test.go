package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// privatePEM is the key as a PEM block of that type: PKCS #8 or SEC 1.
func privatePEM(t testing.TB, blockType string, key *SigningKey) []byte {
	t.Helper()
	var der []byte
	var err error
	if blockType == "EC PRIVATE KEY" {
		der, err = x509.MarshalECPrivateKey(key.private.(*ecdsa.PrivateKey))
	} else {
		der, err = x509.MarshalPKCS8PrivateKey(key.private)
	}
	ok(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
}

func TestKeyFiles(t *testing.T) {
	k := newKit(t)
	ecPublic, edPublic := publicPEM(t, k.es256.private.Public()), publicPEM(t, k.eddsa.private.Public())
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	tests := []struct {
		name string
		mode os.FileMode
		data []byte
		kids []string
	}{
		{"PKIX, EC", 0o644, ecPublic, []string{k.es256.KeyID()}},
		{"PKIX, Ed25519", 0o644, edPublic, []string{k.eddsa.KeyID()}},
		{"PKIX, RSA", 0o644, publicPEM(t, k.rs256.private.Public()), []string{k.rs256.KeyID()}},
		{"several keys", 0o644, append(bytes.Clone(ecPublic), edPublic...), []string{k.es256.KeyID(), k.eddsa.KeyID()}},
		{"text around the key", 0o644, append([]byte("our key:\n"), ecPublic...), []string{k.es256.KeyID()}},
		{"PKCS #8, EC", 0o600, privatePEM(t, "PRIVATE KEY", k.es256), []string{k.es256.KeyID()}},
		{"PKCS #8, Ed25519", 0o400, privatePEM(t, "PRIVATE KEY", k.eddsa), []string{k.eddsa.KeyID()}},
		{"PKCS #8, RSA, to verify with", 0o600, privatePEM(t, "PRIVATE KEY", k.rs256), []string{k.rs256.KeyID()}},
		{"SEC 1", 0o600, privatePEM(t, "EC PRIVATE KEY", k.es256), []string{k.es256.KeyID()}},
		{"SEC 1 as openssl writes it", 0o600, append(parameters, privatePEM(t, "EC PRIVATE KEY", k.es256)...), []string{k.es256.KeyID()}},
		{"JWKS", 0o644, jwks(t, jwkOf(t, "one", k.es256.private.Public())), []string{"one"}},
		{"JWKS behind a blank line", 0o644, append([]byte("\n\n"), jwks(t, jwkOf(t, "one", k.es256.private.Public()))...), []string{"one"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := NewKeySet(KeySetConfig{Files: []string{writeFile(t, "key", tt.mode, tt.data)}})
			ok(t, err)
			if got := len(set.KeyIDs()); got != len(tt.kids) {
				t.Errorf("got %v, want %v", set.KeyIDs(), tt.kids)
			}
			for _, kid := range tt.kids {
				if set.lookup(kid) == nil {
					t.Errorf("no key %s in %v", kid, set.KeyIDs())
				}
			}
		})
	}
}

func TestKeyFilesRefused(t *testing.T) {
	k := newKit(t)
	good := publicPEM(t, k.es256.private.Public())
	private := privatePEM(t, "PRIVATE KEY", k.es256)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ok(t, err)
	tests := []struct {
		name string
		data []byte
		err  string // part of the message
	}{
		{"empty", nil, "neither PEM nor a JWKS"},
		{"text", []byte("secret"), "neither PEM nor a JWKS"},
		{"JWKS without keys", []byte(`{"keys":[]}`), "no key that verifies tokens"},
		{"JWKS cut short", jwks(t, jwkOf(t, "x", k.es256.private.Public()))[:40], "not a JWKS"},
		{"PEM cut short", good[:len(good)-10], "cut short"},
		{"second block cut short", append(bytes.Clone(good), good[:60]...), "cut short"},
		{"first block garbled", append(bytes.Replace(good, []byte("MFk"), []byte("!!!"), 1), good...), "cut short"},
		{"block of nonsense", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "public key cannot be read"},
		{"private nonsense", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "private key cannot be read"},
		{"certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "openssl pkey"},
		{"encrypted", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}), "openssl pkey"},
		{"P-384", publicPEM(t, p384.Public()), "P-256"},
		{"weak RSA key", publicPEM(t, rsaWeakKey().Public()), "1024 bits"},
		{"RSA exponent 1", publicPEM(t, &rsa.PublicKey{N: rsaKey().N, E: 1}), "exponent"},
		{"over 64 KiB", append(bytes.Clone(good), bytes.Repeat([]byte("\n"), 64<<10)...), "64 KiB"},
		{"good key before an unknown block", append(bytes.Clone(private), pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: nil})...), "openssl pkey"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, "key", 0o600, tt.data)
			set, err := NewKeySet(KeySetConfig{Files: []string{path}})
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %v, %v; want an error with %q", set, err, tt.err)
			}
			if bytes.Contains(tt.data, []byte("secret")) && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v repeats the file", err)
			}
		})
	}
}

func TestKeyFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	ok(t, syscall.Mkfifo(pipe, 0o600))
	for _, path := range []string{dir, pipe, filepath.Join(dir, "absent"), ""} {
		if _, err := NewKeySet(KeySetConfig{Files: []string{path}}); err == nil {
			t.Errorf("%q: taken", path)
		}
		if _, err := LoadSigningKey(path); err == nil {
			t.Errorf("%q: taken to sign with", path)
		}
	}
}

func TestPrivateKeysMustBePrivate(t *testing.T) {
	k := newKit(t)
	for mode := range os.FileMode(0o1000) {
		if mode&0o400 == 0 {
			continue // not for us to read either
		}
		path := writeFile(t, "key.pem", mode, privatePEM(t, "PRIVATE KEY", k.es256))
		if err := CheckSecretFile(path); (err == nil) != (mode&0o077 == 0) {
			t.Errorf("mode %04o: any secret: %v", mode, err)
		}
		_, signErr := LoadSigningKey(path)
		_, setErr := NewKeySet(KeySetConfig{Files: []string{path}})
		if mode&0o077 == 0 {
			if signErr != nil || setErr != nil {
				t.Errorf("mode %04o: %v, %v", mode, signErr, setErr)
			}
			continue
		}
		for _, err := range []error{signErr, setErr} {
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("`chmod 600 %s`", path)) {
				t.Errorf("mode %04o: got %v", mode, err)
			}
		}
	}
}

// owned is a file's info with another owner.
type owned struct {
	os.FileInfo
	by uint32
}

func (o owned) Sys() any { return &syscall.Stat_t{Uid: o.by} }

// A file that root lends to a group may be read by that group, by nobody else, and
// written by root alone.
func TestPrivateKeysLentByRoot(t *testing.T) {
	for _, tc := range []struct {
		owner uint32
		user  int
		lent  bool
	}{{0, 65532, true}, {0, 0, false}, {65532, 65532, false}, {1000, 65532, false}, {1000, 0, false}} {
		if got := lent(owned{by: tc.owner}, tc.user); got != tc.lent {
			t.Errorf("owner %d, user %d: lent %v", tc.owner, tc.user, got)
		}
	}
	for mode := range os.FileMode(0o1000) {
		f := &keyFile{path: "key.pem", mode: mode, lent: true}
		if err := f.checkMode(true); (err == nil) != (mode&0o037 == 0) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestSigningKeyRoundTrip(t *testing.T) {
	for _, alg := range []Algorithm{ES256, EdDSA} {
		t.Run(string(alg), func(t *testing.T) {
			key, err := GenerateSigningKey(alg)
			ok(t, err)
			path := filepath.Join(t.TempDir(), "key.pem")
			ok(t, key.WritePEM(path))
			info, err := os.Stat(path)
			ok(t, err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("written with mode %v", info.Mode())
			}
			back, err := LoadSigningKey(path)
			ok(t, err)
			if back.KeyID() != key.KeyID() || back.Algorithm() != alg {
				t.Errorf("got %v, want %v", back, key)
			}
			if err := key.WritePEM(path); err == nil {
				t.Error("overwrote a key")
			}
		})
	}
}

func TestSigningKeysRefused(t *testing.T) {
	k := newKit(t)
	ec := privatePEM(t, "PRIVATE KEY", k.es256)
	for name, data := range map[string][]byte{
		"RSA":        privatePEM(t, "PRIVATE KEY", k.rs256),
		"public":     publicPEM(t, k.es256.private.Public()),
		"two":        append(bytes.Clone(ec), ec...),
		"JWKS":       jwks(t, jwkOf(t, "x", k.es256.private.Public())),
		"cut short":  ec[:len(ec)-10],
		"not a key":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
		"empty file": nil,
	} {
		if key, err := LoadSigningKey(writeFile(t, "key.pem", 0o600, data)); err == nil {
			t.Errorf("%s: got %v", name, key)
		}
	}
	for _, alg := range []Algorithm{RS256, "HS256", "none", ""} {
		if key, err := GenerateSigningKey(alg); err == nil {
			t.Errorf("%q: got %v", alg, key)
		}
	}
}

func TestWritePEMFailsWhole(t *testing.T) {
	key, err := GenerateSigningKey(ES256)
	ok(t, err)
	if err := key.WritePEM(filepath.Join(t.TempDir(), "absent", "key.pem")); err == nil {
		t.Error("written into a directory that is not there")
	}
}

func TestSigningKeyPrintsItsIDOnly(t *testing.T) {
	key, err := GenerateSigningKey(ES256)
	ok(t, err)
	want := "signing key " + key.KeyID()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if got := fmt.Sprintf(verb, key); got != want {
			t.Errorf("%s of the pointer: %s", verb, got)
		}
		if got := fmt.Sprintf(verb, *key); got != want {
			t.Errorf("%s of the value: %s", verb, got)
		}
	}
	if got := fmt.Sprintf("%+v", IssuerConfig{Key: key}); !strings.Contains(got, want) {
		t.Error(got)
	}
	if got := fmt.Sprint(SigningKey{}); got != "signing key none" {
		t.Error(got)
	}
}

// What is derived from a key is the same each time, and tells nothing of what is
// derived for something else or from another key.
func TestDerive(t *testing.T) {
	seen := map[string]string{}
	for _, alg := range []Algorithm{ES256, EdDSA} {
		key, err := GenerateSigningKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		for _, purpose := range []string{"journal", "other"} {
			one, err1 := key.Derive(purpose)
			two, err2 := key.Derive(purpose)
			if err1 != nil || err2 != nil || len(one) != 32 || string(one) != string(two) {
				t.Errorf("%s for %s: %x and %x, %v, %v", alg, purpose, one, two, err1, err2)
			}
			if was, ok := seen[string(one)]; ok {
				t.Errorf("%s for %s is that of %s", alg, purpose, was)
			}
			seen[string(one)] = string(alg) + " " + purpose
		}
	}
}
