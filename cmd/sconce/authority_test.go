package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"
)

// makeLeaf opens the folder's authority as of a time and sees to a leaf.
func makeLeaf(t *testing.T, dir stateDir, now time.Time, hosts ...string) *x509.Certificate {
	t.Helper()
	a, err := openAuthority(dir, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if err := a.leaf(hosts); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(dir.path(stateCert), dir.path(stateKey))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestAuthorityMakesACertificateThatClientsBelieve(t *testing.T) {
	dir := stateDir(t.TempDir())
	leaf := makeLeaf(t, dir, time.Now(), "localhost", "127.0.0.1", "::1", "box")
	pem, err := os.ReadFile(dir.path(stateCA))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "box"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if leaf.IsCA {
		t.Error("the port's certificate can sign others")
	}
}

func TestAuthorityKeepsWhatIsGood(t *testing.T) {
	dir, now := stateDir(t.TempDir()), time.Now()
	first := makeLeaf(t, dir, now, "localhost")
	if again := makeLeaf(t, dir, now.Add(24*time.Hour), "localhost"); !again.Equal(first) {
		t.Error("a good certificate was made anew")
	}
	wider := makeLeaf(t, dir, now, "localhost", "box")
	if wider.Equal(first) {
		t.Error("a certificate without one of the names was kept")
	}
	if later := makeLeaf(t, dir, now.Add(leafLife-leafRenew+time.Minute), "localhost"); later.Equal(wider) {
		t.Error("a certificate about to expire was kept")
	}
	os.Remove(dir.path(stateCA))
	os.Remove(dir.path(stateCAKey))
	if other := makeLeaf(t, dir, now, "localhost"); other.Issuer.String() == "" || other.Equal(wider) {
		t.Error("a certificate of another authority was kept")
	}
}

func TestAuthorityThatIsDamagedIsSaidSo(t *testing.T) {
	dir := stateDir(t.TempDir())
	makeLeaf(t, dir, time.Now(), "localhost")
	if err := dir.write(stateCA, []byte("rubbish")); err != nil {
		t.Fatal(err)
	}
	if _, err := openAuthority(dir, time.Now); err == nil {
		t.Error("rubbish was taken for an authority")
	}
}

func TestStateDirIsForItsOwnerAlone(t *testing.T) {
	dir := stateDir(t.TempDir() + "/state")
	if err := dir.make(); err != nil {
		t.Fatal(err)
	}
	makeLeaf(t, dir, time.Now(), "localhost")
	for path, want := range map[string]os.FileMode{".": 0o700, stateCAKey: 0o600, stateKey: 0o600, stateCA: 0o600} {
		info, err := os.Stat(dir.path(path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}
